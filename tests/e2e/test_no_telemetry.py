"""What a library would tell its maker of this device is not told, and nothing is put aside for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.fixtures.color_model import color_archive, numbered_images
from tests.fixtures.mli_process import MLI, environment


@pytest.mark.parametrize("command", [["model", "verify"], ["run", "--once", "--interval", "0"]])
def test_the_runtime_keeps_no_number_of_this_device(tmp_path: Path, command: list[str]) -> None:
    """onnxruntime makes a database of its reports in the home folder as soon as it is imported."""
    archive, home = color_archive(tmp_path), tmp_path / "home"
    home.mkdir()
    numbered_images(tmp_path / "images", 1)
    images = [tmp_path / "images"] if command[0] == "run" else []
    done = subprocess.run(
        [*MLI, *command, str(archive), *map(str, images)],
        env={**environment(tmp_path / "state"), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []
