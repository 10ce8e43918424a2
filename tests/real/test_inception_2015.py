"""The accelerator's own model: Inception-BN as MXNet wrote it in 2015, on the six photos, with MXNet's numbers.

MXNet 1.9.1 itself cannot load this file: its pooling rounds up, and nothing in it says so. The expected numbers are
MXNet's, told to round up (conformance/oracle/inception_2015.py).
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.brokers import ROOT
from tests.fixtures.inception_weights import inception_weights
from tests.fixtures.mli_process import run_mli
from tests.fixtures.mxnet_files import params_bytes

EXPECTED = ROOT / "tests" / "golden" / "inception-2015" / "expected.npz"
TOP = 5


@pytest.fixture(scope="module")
def archive(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """inception-bn.zip as the accelerator's users hold it; 45 MB."""
    symbol = data / "inception-bn" / "Inception-BN-symbol.json"
    weights = inception_weights(symbol, np.load(EXPECTED)["fc_bias"])
    path = tmp_path_factory.mktemp("inception") / "inception-bn.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.write(symbol, symbol.name)
        file.write(data / "inception-bn" / "synset.txt", "synset.txt")
        file.writestr("Inception-BN-0000.params", params_bytes(weights))
    return path


def test_it_runs_and_agrees_with_mxnet_image_by_image(archive: Path, data: Path, tmp_path: Path) -> None:
    options = ("--once", "--interval", "0", "--top", TOP, "--json", "--root", tmp_path / "root")
    result = run_mli("run", archive, data / "photos", *options, state=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "pooling rounds up" in result.stderr
    frames = [json.loads(line) for line in result.stdout.splitlines()]
    probabilities = np.load(EXPECTED)["probabilities"]
    assert len(frames) == len(probabilities) == 6
    for frame, expected in zip(sorted(frames, key=lambda frame: frame["image_name"]), probabilities, strict=True):
        best = np.argsort(-expected)[:TOP]
        assert [item["class_id"] for item in frame["predictions"]] == best.tolist(), frame["image_name"]
        for item, index in zip(frame["predictions"], best, strict=True):
            assert item["confidence"] == pytest.approx(float(expected[index]), rel=1e-4)


def test_the_second_run_imports_nothing(archive: Path, data: Path, tmp_path: Path) -> None:
    options = ("--once", "--interval", "0", "--root", tmp_path / "root")
    first = run_mli("run", archive, data / "photos" / "owl.jpg", *options, state=tmp_path)
    second = run_mli("run", archive, data / "photos" / "owl.jpg", *options, "--from-start", state=tmp_path)
    assert "importing" in first.stderr
    assert "importing" not in second.stderr
    assert second.stdout == first.stdout
