"""The component on a device without a network: packed with its real wheels, installed and run by its recipe."""

from __future__ import annotations

import json
import platform
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.brokers import Mosquitto
from tests.fixtures.clean_root import System
from tests.fixtures.component_life import Life, live
from tests.fixtures.mli_process import run_mli

from mli.cloud.component_package import build

BASE = Path(sys.base_prefix)
HERE = System("this machine", python=None if str(BASE) == "/usr" else BASE)

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.timeout(400)
def test_the_recipe_installs_and_runs_mli_without_a_network(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """On this machine's system and Python alone; `make component-check` has the others, and kills on the way."""
    package = build(tmp_path / "package", [platform.machine()], [PYTHON])
    live(Life(HERE, "lite", kill=False), package, make_mosquitto(), tmp_path / "life", lambda _: None)


def test_the_command_packs_for_one_machine_and_python(tmp_path: Path) -> None:
    only = ("--architecture", platform.machine(), "--python", PYTHON)
    done = run_mli("stack", "package", "--component", *only, "-o", tmp_path / "out", "--json", state=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["component"]
    assert said["targets"] == [f"{platform.machine()}-cp{PYTHON.replace('.', '')}"]
    with zipfile.ZipFile(said["artifact"]) as archive:
        assert {f"requirements-{said['targets'][0]}.txt", "install.sh"} <= set(archive.namelist())


def test_what_there_is_no_component_for_is_said(tmp_path: Path) -> None:
    command = ("stack", "package", "-o", tmp_path / "out")
    done = run_mli(*command, "--component", "--architecture", "armv7l", state=tmp_path)
    assert done.returncode == 2
    assert "x86_64 or aarch64" in done.stderr
    done = run_mli(*command, "--python", "3.11", state=tmp_path)
    assert done.returncode == 2
    assert "add --component" in done.stderr
    assert not (tmp_path / "out").exists()
