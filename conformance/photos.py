"""The whole way: an archive with weights made by MXNet, ``mli run`` on the photos, MXNet's predictions beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conformance.networks import NETWORKS, PHOTOS, make_images
from conformance.oracle_process import ROOT, Array, oracle_command, oracle_environment

NAME = "inception-bn"
TOP = 5


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """One photo.

    Attributes:
        mxnet_label, mxnet_confidence: MXNet's best prediction.
        label, confidence: mli's.
        error: largest difference of a confidence of the top five, by MXNet's largest.
        same_top5: the same five labels in the same order.
    """

    photo: str
    mxnet_label: int
    mxnet_confidence: float
    label: int
    confidence: float
    error: float
    same_top5: bool


def make_archive(python: Path, folder: Path) -> Path:
    """Write ``inception-bn.zip`` as the accelerator's users hold it, weights by MXNet, a label for each class."""
    (network,) = (network for network in NETWORKS if network.name == NAME)
    np.save(folder / "images.npy", make_images(network))
    command = oracle_command(python, "networks", NAME, str(folder))
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=oracle_environment())
    archive = folder / f"{NAME}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in (f"{NAME}-symbol.json", f"{NAME}-0000.params"):
            file.write(folder / name, name)
        file.writestr("synset.txt", "".join(f"n{number:08} class {number}\n" for number in range(1000)))
    return archive


def check_photos(python: Path, folder: Path) -> list[PhotoRecord]:
    """Run the archive on every photo, as a user does."""
    archive = make_archive(python, folder)
    command = [sys.executable, "-m", "mli", "run", str(archive), str(PHOTOS), "--once", "--interval", "0", "--json"]
    command += ["--top", str(TOP), "--root", str(folder / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    frames = sorted((json.loads(line) for line in done.stdout.splitlines()), key=lambda frame: frame["image_name"])
    (probabilities,) = dict(np.load(folder / "outputs.npz")).values()
    return [_record(frame, expected) for frame, expected in zip(frames, probabilities, strict=True)]


def _record(frame: dict[str, object], expected: Array) -> PhotoRecord:
    predictions = frame["predictions"]
    assert isinstance(predictions, list)
    best = np.argsort(-expected, kind="stable")[:TOP]
    found = {item["class_id"]: item["confidence"] for item in predictions}
    differences = [abs(found.get(int(index), 0.0) - float(expected[index])) for index in best]
    return PhotoRecord(
        str(frame["image_name"]),
        int(best[0]),
        float(expected[best[0]]),
        predictions[0]["class_id"],
        predictions[0]["confidence"],
        max(differences) / float(expected[best[0]]),
        list(found) == best.tolist(),
    )
