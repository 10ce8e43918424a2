"""A backend that is not installed is named before anything starts, with the command that installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.tiny_models import write_onnx_means, write_tflite_means
from tests.unit.models.model_files import make_zip
from tests.unit.pipeline.encoded_images import encode, pixels

# As if the package were not there: no finder knows it, in this process and in none that it starts.
RUN_WITHOUT = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == sys.argv[1]:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
missing = sys.argv.pop(1)
from mli.cli.main import main
main()
"""


def run_without(module: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN_WITHOUT.replace("sys.argv[1]", repr(module)), module, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(encode(pixels()))
    for write, name in ((write_onnx_means, "m.onnx"), (write_tflite_means, "m.tflite")):
        model = write(tmp_path / name).read_bytes()
        make_zip(tmp_path / f"{name}.zip", {name: model, "labels.txt": b"r\ng\nb\n"})
    return tmp_path


@pytest.mark.parametrize(
    ("module", "model", "remedy"),
    [
        ("ai_edge_litert", "m.tflite.zip", "pip install ai-edge-litert"),
        ("onnxruntime", "m.onnx.zip", "pip install onnxruntime"),
    ],
)
def test_run_names_the_missing_backend_and_how_to_install_it(
    folder: Path, module: str, model: str, remedy: str
) -> None:
    done = run_without(module, folder, "run", model, "images", "--once", "--interval", "0", "--root", "root")
    assert done.returncode == 1
    assert "is not installed" in done.stderr
    assert f"the Python module {module}" in done.stderr
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (folder / "root" / "spool.db").exists()  # nothing was started


def test_run_works_where_only_the_other_backend_is_missing(folder: Path) -> None:
    done = run_without(
        "ai_edge_litert", folder, "run", "m.onnx.zip", "images", "--once", "--interval", "0", "--root", "r"
    )
    assert done.returncode == 0, done.stderr
    assert '"prediction"' in done.stdout
