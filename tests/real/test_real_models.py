"""A real classifier and a real detector on real photos, against the runtimes called by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from mli.config.settings import PipelineSettings, PreprocessSettings, PublishSettings, SourceSettings
from mli.models.labels import read_labels
from mli.pipeline.estimators.registry import open_estimator
from mli.pipeline.loop import FrameProcessor
from mli.pipeline.sources.image_files import list_images
from mli.pipeline.sources.images import decode_file
from mli.types import Box, ModelSpec, OutputSpec, Prediction

PHOTOS = {
    "aluminum-87987_1280.jpg",
    "carton_box.png",
    "cat_720p.jpg",
    "hot_dog.jpg",
    "owl.jpg",
    "plastic_bottle.jpg",
}


def predict(
    model: ModelSpec, image: Path, *, top: int, preprocess: PreprocessSettings = PreprocessSettings()
) -> tuple[Prediction, ...]:
    settings = PipelineSettings(
        "real", "t", SourceSettings("images"), "m", PublishSettings("t"), preprocess=preprocess, top=top
    )
    estimator = open_estimator(model)
    predictions = FrameProcessor(settings, model, estimator)(decode_file(str(image), 50_000_000))
    estimator.close()
    return predictions


def mobilenet(data: Path) -> ModelSpec:
    folder = data / "mobilenet-tflite"
    labels = read_labels(folder / "imagenet_labels.txt")
    file = "mobilenet_v1_0.25_128_quant.tflite"
    return ModelSpec("mobilenet", "1", "0" * 64, "tflite", "classification", str(folder), file, labels)


def mobilenet_by_hand(model: ModelSpec, image: Path) -> NDArray[Any]:
    """The 1001 stored bytes of the output."""
    interpreter = Interpreter(model_path=str(Path(model.directory) / model.model_file))
    interpreter.allocate_tensors()
    pixels = cv2.resize(cv2.imread(str(image)), (128, 128))[:, :, ::-1]  # type: ignore[arg-type]
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(pixels)[None])
    interpreter.invoke()
    stored: NDArray[Any] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    return stored


def test_the_photos_are_all_there_and_all_decode(data: Path) -> None:
    found = list_images(str(data / "photos"))
    assert {Path(path).name for path in found} == PHOTOS
    for path in found:
        np.testing.assert_array_equal(decode_file(path, 50_000_000), cv2.imread(path))


def test_the_carton_is_a_carton(data: Path) -> None:
    (best,) = predict(mobilenet(data), data / "photos" / "carton_box.png", top=1)
    assert best.label == "carton"
    assert best.confidence == pytest.approx(0.463, abs=0.02)


@pytest.mark.parametrize("photo", sorted(PHOTOS))
def test_every_confidence_is_the_runtimes_own(data: Path, photo: str) -> None:
    model = mobilenet(data)
    found = predict(model, data / "photos" / photo, top=1001)
    stored = mobilenet_by_hand(model, data / "photos" / photo)
    assert len(found) == len(stored) == 1001
    scale = np.float32(1 / 256)
    for item in found:
        assert item.confidence == float(stored[item.class_id] * scale)
        assert item.label == model.labels[item.class_id]
    order = [item.class_id for item in found]
    assert order == sorted(range(1001), key=lambda index: (-int(stored[index]), index))


def face_detector(data: Path) -> ModelSpec:
    return ModelSpec(
        name="face",
        version="slim-320",
        sha256="0" * 64,
        format="onnx",
        task="detection",
        directory=str(data / "face-onnx"),
        model_file="version-slim-320.onnx",
        labels=("background", "face"),
        outputs=(OutputSpec("scores", "scores"), OutputSpec("boxes", "boxes")),
        background="background",
    )


SCALED = PreprocessSettings(mean=(127.0,), scale=(1 / 128,))


def test_the_one_face_is_found_where_the_runtime_sees_it(data: Path) -> None:
    image = data / "face-onnx" / "grace_hopper.bmp"
    model = face_detector(data)
    (face,) = predict(model, image, top=10, preprocess=SCALED)
    session = onnxruntime.InferenceSession(str(Path(model.directory) / model.model_file))
    pixels = cv2.resize(cv2.imread(str(image)), (320, 240))[:, :, ::-1].astype(np.float32)  # type: ignore[arg-type]
    tensor = ((pixels - 127) / 128).transpose(2, 0, 1)[None]
    scores, boxes = session.run(["scores", "boxes"], {session.get_inputs()[0].name: np.ascontiguousarray(tensor)})
    best = int(scores[0, :, 1].argmax())
    assert face.label == "face"
    assert face.confidence == pytest.approx(float(scores[0, best, 1]), abs=1e-4)
    assert face.confidence > 0.9
    assert face.box is not None
    assert _edges(face.box) == pytest.approx(boxes[0, best].clip(0, 1).tolist(), abs=1e-3)


@pytest.mark.parametrize("resize", ["letterbox", "crop"])
def test_the_face_is_at_the_same_place_of_the_photo_however_it_is_resized(data: Path, resize: Any) -> None:
    image = data / "face-onnx" / "grace_hopper.bmp"
    model = face_detector(data)
    (stretched,) = predict(model, image, top=10, preprocess=SCALED)
    other = PreprocessSettings(mean=(127.0,), scale=(1 / 128,), resize=resize)
    (resized,) = predict(model, image, top=10, preprocess=other)
    assert stretched.box is not None
    assert resized.box is not None
    assert _edges(resized.box) == pytest.approx(_edges(stretched.box), abs=0.08)


def _edges(box: Box) -> list[float]:
    return [box.left, box.top, box.right, box.bottom]


def test_packed_and_run_the_photos_get_their_predictions(data: Path, tmp_path: Path) -> None:
    folder = data / "mobilenet-tflite"
    files = [folder / "mobilenet_v1_0.25_128_quant.tflite", folder / "imagenet_labels.txt"]
    golden = data / "photos" / "carton_box.png"
    archive = tmp_path / "mobilenet.zip"
    mli("model", "pack", *files, golden, "-o", archive)
    done = mli(
        "run", archive, data / "photos", "--once", "--interval", "0", "--image-name", "--root", tmp_path / "root"
    )
    seen = {}
    for line in done.stdout.splitlines():
        (item,) = json.loads(line[line.index("[") :])
        assert list(item) == ["confidence", "prediction", "image_name"]
        seen[item["image_name"]] = item["prediction"]
    assert seen.keys() == PHOTOS
    assert seen["carton_box.png"] == "carton"


def mli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    return done
