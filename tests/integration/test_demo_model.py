"""The committed demo model still knows what the simulated camera draws."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from mli.pipeline.sources.belt import LABELS, render

ARCHIVE = Path(__file__).resolve().parents[2] / "src" / "mli" / "assets" / "recycling.zip"
# Neither trained on, nor judged on for the model card, nor the demo's own.
FRESH_SEED = 50_021
FRAMES = 600


@pytest.fixture(scope="module")
def archive() -> dict[str, bytes]:
    with zipfile.ZipFile(ARCHIVE) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.fixture(scope="module")
def manifest(archive: dict[str, bytes]) -> Any:
    return json.loads(archive["manifest.json"])


@pytest.fixture(scope="module")
def labels(archive: dict[str, bytes], manifest: Any) -> list[str]:
    return archive[manifest["labels"]].decode("utf-8").splitlines()


@pytest.fixture(scope="module")
def session(archive: dict[str, bytes], manifest: Any) -> Any:
    return onnxruntime.InferenceSession(archive[manifest["model"]], providers=["CPUExecutionProvider"])


def to_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = cv2.cvtColor(cv2.resize(image, (96, 96), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)
    return np.asarray(small, np.float32).transpose(2, 0, 1)[None]


def test_the_archive_is_small_and_names_the_cameras_labels(labels: list[str]) -> None:
    assert ARCHIVE.stat().st_size <= 2_000_000
    assert tuple(labels) == LABELS


def test_the_manifest_says_that_the_output_is_logits(manifest: Any) -> None:
    assert [(output["name"], output["kind"]) for output in manifest["outputs"]] == [("logits", "logits")]


def test_the_model_is_right_on_fresh_frames(session: Any, labels: list[str]) -> None:
    wrong = []
    for index in range(FRAMES):
        scene = render(FRESH_SEED, index)
        (logits,) = session.run(["logits"], {"image": to_input(scene.image)})
        said = labels[int(np.argmax(logits))]
        if said != scene.label:
            wrong.append(f"{index}: {scene.label}, said {said}")
    assert 1 - len(wrong) / FRAMES >= 0.97, wrong


def test_the_model_takes_a_batch(session: Any) -> None:
    images = [to_input(render(FRESH_SEED, index).image) for index in range(5)]
    (together,) = session.run(["logits"], {"image": np.concatenate(images)})
    alone = [session.run(["logits"], {"image": image})[0][0] for image in images]
    assert together.shape == (5, len(LABELS))
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-3)


def test_golden_samples_agree_and_cover_every_label(
    archive: dict[str, bytes], manifest: Any, session: Any, labels: list[str]
) -> None:
    covered = set()
    for sample in manifest["golden"]:
        encoded = np.frombuffer(archive[sample["image"]], np.uint8)
        image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
        (logits,) = session.run(["logits"], {"image": to_input(image)})
        shares = np.exp(logits[0] - logits[0].max())
        shares /= shares.sum()
        expected = sample["expected"][0]
        best = int(np.argmax(shares))
        assert labels[best] == expected["label"]
        assert labels[best].replace(" ", "-") in sample["image"]
        assert float(shares[best]) == pytest.approx(expected["confidence"], abs=sample["tolerance"])
        covered.add(labels[best])
    assert covered == set(LABELS)
