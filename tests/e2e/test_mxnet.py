"""MXNet archives as their owners hold them: they run as they are, and what is wrong with one is said."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.fixtures.brokers import wait_until
from tests.fixtures.color_model import numbered_images
from tests.fixtures.mli_process import environment, is_alive, run_mli, sandboxes_of, start_mli
from tests.fixtures.mxnet_files import GOLDEN, Net, golden_archive, params_bytes, synset

LABELS = {"synset.txt": synset(10)}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    numbered_images(tmp_path / "images", 3)
    return tmp_path / "images"


def test_the_file_of_2015_runs_and_says_how_it_was_read(tmp_path: Path, images: Path) -> None:
    archive = golden_archive("inception-rounds-up-0.8", tmp_path / "inception-bn.zip", extra=LABELS)
    result = run_mli("run", archive, images, "--once", "--interval", "0", "--thing", "t", state=tmp_path)
    assert result.returncode == 0, result.stderr
    payloads = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(payloads) == 3
    assert all(entry.keys() == {"confidence", "prediction"} for (entry,) in payloads)
    assert "pooling rounds up" in result.stderr


def test_a_native_archive_gives_the_same_predictions(tmp_path: Path, images: Path) -> None:
    archive = golden_archive("inception", tmp_path / "net.tar.gz", extra=LABELS)
    photo = sorted(images.iterdir())[0]
    imported = run_mli(
        "model", "import", archive, "-o", tmp_path / "x.zip", "--golden", photo, "--json", state=tmp_path
    )
    assert imported.returncode == 0, imported.stderr
    body = json.loads(imported.stdout)
    assert body["operators"]["Concat"] > 0
    assert list(body["golden"]) == [f"golden/{photo.name}"]
    verified = run_mli("model", "verify", tmp_path / "x.zip", "--sha256", body["sha256"], state=tmp_path)
    assert verified.returncode == 0, verified.stderr
    runs = [
        run_mli("run", file, images, "--once", "--interval", "0", "--root", tmp_path / root, state=tmp_path)
        for file, root in ((archive, "first"), (tmp_path / "x.zip", "second"))
    ]
    assert runs[0].stdout == runs[1].stdout != ""


def test_a_detector_of_sagemaker_runs_as_it_was_saved_in_training(tmp_path: Path, images: Path) -> None:
    hyperparams = json.dumps({"image_shape": "32", "num_classes": "3", "base_network": "vgg-16"})
    archive = golden_archive(
        "ssd-training", tmp_path / "model.tar.gz", prefix="model_algo_1", extra={"hyperparams.json": hyperparams}
    )
    options = ("--once", "--interval", "0", "--json", "--top", "5", "--min-confidence", "0.1")
    result = run_mli("run", archive, images, *options, state=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "32 x 32" in result.stderr
    assert "sagemaker object detection" in result.stderr
    found = [item for line in result.stdout.splitlines() for item in json.loads(line)["predictions"]]
    assert found
    assert {item["label"] for item in found} <= {"0", "1", "2"}
    assert all(item["box"] is not None for item in found)


def test_a_gluon_network_publishes_probabilities(tmp_path: Path, images: Path) -> None:
    """It ends before softmax; a confidence is a probability all the same."""
    archive = golden_archive("gluon", tmp_path / "gluon.zip", extra=LABELS)
    options = ("--once", "--interval", "0", "--json", "--top", "10")
    result = run_mli("run", archive, images, *options, state=tmp_path)
    assert result.returncode == 0, result.stderr
    for line in result.stdout.splitlines():
        assert sum(item["confidence"] for item in json.loads(line)["predictions"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "said"),
    [(None, "synset.txt: one label a line"), (9, "10 lines, one for each class of net-symbol.json")],
    ids=["no synset", "one line too few"],
)
def test_labels_that_do_not_fit(tmp_path: Path, images: Path, labels: int | None, said: str) -> None:
    extra = {} if labels is None else {"synset.txt": synset(labels)}
    archive = golden_archive("inception", tmp_path / "net.zip", extra=extra)
    result = run_mli("run", archive, images, "--once", state=tmp_path)
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_what_mli_cannot_do_is_told_whole(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "rnn"
    folder.mkdir()
    net = Net()
    net_out = net.op("RNN", "lstm", net.op("ROIPooling", "rois", net.variable("data")))
    (folder / "rnn-symbol.json").write_bytes(net.json(net_out))
    (folder / "rnn-0000.params").write_bytes(params_bytes({"w": np.zeros(2, np.float32)}))
    (folder / "synset.txt").write_text("a\nb\n")
    result = run_mli("model", "import", folder, "-o", tmp_path / "x.zip", state=tmp_path)
    assert result.returncode == 1
    for text in ("RNN, ROIPooling", "lstm (RNN) of rois", "rois (ROIPooling) of data", "FullyConnected"):
        assert text in result.stderr
    assert not (tmp_path / "x.zip").exists()
    assert images.is_dir()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.zip", "-o", "x.zip"], "there is no such file"),
        (["net.zip"], "-o X.zip writes an archive"),
        (["net.zip", "-o", "net.zip"], "there already"),
        (["net.zip", "-o", "x.rar"], ".zip or a .tar.gz"),
        (["net.zip", "-o", "x.zip", "--size", "large"], "size"),
        (["native.zip", "-o", "x.zip"], "holds no MXNet model"),
        (["net.zip", "-o", "nowhere/x.zip"], "a writable folder"),
        (["net.zip", "-o", "x.zip", "--labels", "nothing.txt"], "labels file is not there"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(tmp_path: Path, arguments: list[str], said: str) -> None:
    golden_archive("inception", tmp_path / "net.zip", extra=LABELS)
    run_mli("model", "import", "net.zip", "-o", "native.zip", state=tmp_path, cwd=tmp_path)
    result = run_mli("model", "import", *arguments, state=tmp_path, cwd=tmp_path)
    assert result.returncode == 2
    assert said in result.stderr
    assert not (tmp_path / "x.zip").exists()


def test_a_model_that_takes_too_much_memory_is_ended_while_it_loads(tmp_path: Path, images: Path) -> None:
    """A layer of 2000 x 2000 x 16 numbers."""
    net = Net()
    options = {"kernel": "(3, 3)", "num_filter": 16, "no_bias": True}
    layer = net.op("Convolution", "conv", net.variable("data"), net.variable("conv_weight"), **options)
    pooled = net.op("Pooling", "pool", layer, kernel="(1, 1)", global_pool=True, pool_type="avg")
    shapes = json.dumps([{"shape": [1, 3, 2000, 2000], "name": "data"}])
    archive = tmp_path / "large.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("large-symbol.json", net.json(net.op("softmax", "out", pooled, axis=1)))
        packed.writestr("large-0000.params", params_bytes({"conv_weight": np.ones((16, 3, 3, 3), np.float32)}))
        packed.writestr("model-shapes.json", shapes)
        packed.writestr("synset.txt", synset(16))
    file = tmp_path / "run.yaml"
    file.write_text(f"model: {archive}\nsource: {images}\nlimits: {{memory: 200MB}}\n")
    result = run_mli("run", file, "--once", "--root", tmp_path / "root", state=tmp_path)
    assert result.returncode == 1
    assert "used more memory" in result.stderr
    assert "limits: {memory: " in result.stderr


def test_two_sizes_of_one_model_are_refused_before_anything_runs(tmp_path: Path, images: Path) -> None:
    archive = golden_archive("inception", tmp_path / "net.zip", extra=LABELS)
    pipelines = "".join(
        f"  p{side}: {{model: net, source: {{uri: {images}}}, preprocess: {{size: {side}x{side}}}, "
        f"publish: {{topic: 't/{side}'}}}}\n"
        for side in (96, 128)
    )
    file = tmp_path / "run.yaml"
    file.write_text(f"models: {{net: {{uri: {archive}}}}}\npipelines:\n{pipelines}")
    result = run_mli("run", file, state=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "96x96 in p96, 128x128 in p128" in result.stderr


def test_a_module_in_the_working_directory_is_not_imported(tmp_path: Path, images: Path) -> None:
    archive = golden_archive("inception", tmp_path / "net.zip", extra=LABELS)
    (tmp_path / "onnx.py").write_text("raise SystemExit('this is not the library')\n")
    (tmp_path / "cv2.py").write_text("raise SystemExit('this is not the library')\n")
    program = "import sys; sys.path.remove(''); import mli.__main__; mli.__main__.run()"
    command = [sys.executable, "-c", program, "run", archive, images, "--once", "--interval", "0"]
    result = subprocess.run(
        list(map(str, command)), cwd=tmp_path, env=environment(tmp_path / "state"), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    for name in ("net-symbol.json", "net-0000.params"):
        (folder / name).write_bytes((GOLDEN / "inception" / name).read_bytes())
    (folder / "synset.txt").write_text(LABELS["synset.txt"])
    process = start_mli("model", "import", folder, "-o", tmp_path / "x.zip", state=tmp_path)
    child = import_of(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not (tmp_path / "x.zip").exists()
    wait_until(lambda: not is_alive(child), "the end of the import")


def import_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The sandboxed child of a command, as soon as it is there."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found[:] = sandboxes_of(process.pid)
        return bool(found) or process.poll() is not None

    wait_until(is_there, "the import")
    assert found, "it ended before it imported anything"
    return found[0]
