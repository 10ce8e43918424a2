"""The commands as a user types them, mistakes included: clear words, the right exit code, never a traceback."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from tests.fixtures.color_model import color_archive, color_image, color_model, numbered_images
from tests.fixtures.mli_process import run_mli, start_mli


def test_without_a_broker_predictions_are_printed(tmp_path: Path) -> None:
    numbered_images(tmp_path / "images", 4)
    result = run_mli("run", color_archive(tmp_path), tmp_path / "images", "--once", "--interval", "0", state=tmp_path)
    assert result.returncode == 0, result.stderr
    seen = [json.loads(line) for line in result.stdout.splitlines()]
    assert [payload[0]["prediction"] for payload in seen] == ["red", "green", "blue", "red"]
    assert all(set(payload[0]) == {"confidence", "prediction"} for payload in seen)
    assert "color has no manifest: pixels go in as 0-255" in result.stderr


def test_json_gives_one_full_object_a_frame(tmp_path: Path) -> None:
    numbered_images(tmp_path / "images", 2)
    result = run_mli(
        "run", color_archive(tmp_path), tmp_path / "images", "--once", "--interval", "0", "--top", "2", "--json",
        "--thing", "press-4", state=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first["thing"] == "press-4"
    assert first["image_name"] == "frame-0.png"
    assert second["predictions"][0]["label"] == "green"
    assert len(second["predictions"]) == 2
    assert (first["sequence"], second["sequence"]) == (1, 2)


def test_a_single_image_and_a_glob_are_sources(tmp_path: Path) -> None:
    archive = color_archive(tmp_path)
    numbered_images(tmp_path / "images", 12)
    one = run_mli("run", archive, tmp_path / "images" / "frame-2.png", "--once", "--interval", "0", state=tmp_path)
    assert "blue" in one.stdout
    some = run_mli("run", archive, tmp_path / "images" / "frame-1*.png", "--once", "--interval", "0", state=tmp_path)
    assert len(some.stdout.splitlines()) == 3


def test_a_bad_image_is_skipped_named_and_counted(tmp_path: Path) -> None:
    numbered_images(tmp_path / "images", 2)
    (tmp_path / "images" / "frame-1a.png").write_bytes(b"no image at all")
    result = run_mli("run", color_archive(tmp_path), tmp_path / "images", "--once", "--interval", "0", state=tmp_path)
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 2
    assert "skipped frame-1a.png: not an image that mli reads" in result.stderr
    assert "1 image skipped" in result.stderr


def test_a_model_with_other_labels_is_refused_saying_both_numbers(tmp_path: Path) -> None:
    numbered_images(tmp_path / "images", 1)
    archive = color_archive(tmp_path, labels=("red", "green", "blue", "grey"))
    result = run_mli("run", archive, tmp_path / "images", "--once", state=tmp_path)
    assert result.returncode == 1
    assert "3 labels, one for each value of output 'probabilities'" in result.stderr
    assert "4 labels" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_broken_model_file_is_refused(tmp_path: Path) -> None:
    numbered_images(tmp_path / "images", 1)
    with zipfile.ZipFile(tmp_path / "broken.zip", "w") as archive:
        archive.writestr("model.onnx", b"not a model")
        archive.writestr("labels.txt", "a\nb\n")
    result = run_mli("run", tmp_path / "broken.zip", tmp_path / "images", "--once", state=tmp_path)
    assert result.returncode == 1
    assert "this is no ONNX model" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_folder_says_what_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    result = run_mli("run", color_archive(tmp_path), tmp_path / "images", "--once", state=tmp_path)
    assert result.returncode == 1
    assert "there are no images" in result.stderr
    assert ".png, .jpg" in result.stderr


def test_a_second_core_in_the_same_root_is_refused(tmp_path: Path) -> None:
    numbered_images(tmp_path / "images", 1)
    archive = color_archive(tmp_path)
    first = start_mli("run", archive, tmp_path / "images", "--json", "--interval", "1h", state=tmp_path)
    try:
        assert first.stdout is not None
        first.stdout.readline()
        second = run_mli("run", archive, tmp_path / "images", state=tmp_path)
    finally:
        first.terminate()
        first.communicate()
    assert second.returncode == 1
    assert f"process {first.pid} holds it" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "Missing argument"),
        (["run", "nosuch.zip", "images"], "nosuch.zip: no such file"),
        (["run", "color.zip"], "where do the images come from?"),
        (["run", "color.zip", "nosuch"], "no folder, file or glob at nosuch"),
        (["run", "color.zip", "images", "--interval", "5 parsecs"], "found the unit 'parsecs'"),
        (["run", "color.zip", "images", "--payload", "tiny"], "'compact' or 'full'"),
        (["run", "color.zip", "images", "--topic", "a/#"], "no wildcards"),
        (["run", "color.zip", "images", "--thing", "a b"], "thing"),
        (["run", "color.zip", "images", "--memory", "lots"], "--memory: expected a size such as 500MB"),
        (["run", "color.zip", "images", "--broker", "http://x"], "mqtt://"),
        (["run", "color.zip", "images", "--cert", "x.pem"], "--broker"),
        (["run", "nosuch.yaml"], "there is no such file"),
        (["run", "broken.yaml"], "broken.yaml:2: sorce: unknown key; did you mean 'source'?"),
        (["config", "broken.yaml"], "broken.yaml:3: model: nosuch.zip: no such file"),
        (["config"], "mli config FILE"),
        (["model", "inspect", "nosuch.zip"], "there is no such file"),
        (["model", "pack", "color.onnx", "-o", "x.zip"], "one labels file"),
        (["model", "pack", "labels.txt", "-o", "x.zip"], "an archive holds one model"),
        (["watch", "--broker", "http://x"], "mqtt://"),
        (["nosuch"], "No such command"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(arguments: list[str], words: str, tmp_path: Path) -> None:
    color_archive(tmp_path)
    color_image(tmp_path / "x.png", "red")
    numbered_images(tmp_path / "images", 1)
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    (tmp_path / "broken.yaml").write_text("thing: t\nsorce: ./images\nmodel: nosuch.zip\nsource: ./images\n")
    if arguments[0] == "config" and len(arguments) > 1:
        (tmp_path / "broken.yaml").write_text("thing: t\nsource: ./images\nmodel: nosuch.zip\n")
    result = run_mli(*arguments, state=tmp_path / "state", cwd=tmp_path)
    assert words in " ".join(result.stderr.split()), result.stderr
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_pack_inspect_verify(tmp_path: Path) -> None:
    color_model(tmp_path / "color.onnx")
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    color_image(tmp_path / "blue.png", "blue")
    packed = run_mli(
        "model", "pack", "color.onnx", "labels.txt", "blue.png", "-o", "packed.zip", "--name", "colors", "--json",
        state=tmp_path, cwd=tmp_path,
    )  # fmt: skip
    assert packed.returncode == 0, packed.stderr
    report = json.loads(packed.stdout)
    assert report["golden"]["golden/blue.png"][0]["label"] == "blue"
    inspected = run_mli("model", "inspect", "packed.zip", "--json", state=tmp_path, cwd=tmp_path)
    spec = json.loads(inspected.stdout)
    assert spec["name"] == "colors"
    assert spec["sha256"] == report["sha256"]
    assert (spec["input"]["width"], spec["input"]["layout"]) == (8, "NCHW")
    verified = run_mli("model", "verify", "packed.zip", "--sha256", report["sha256"], state=tmp_path, cwd=tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert "packed.zip: good" in verified.stdout
    again = run_mli(
        "model", "pack", "color.onnx", "labels.txt", "blue.png", "-o", "packed.zip", state=tmp_path, cwd=tmp_path
    )
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_verify_finds_a_model_that_is_not_the_one_that_was_packed(tmp_path: Path) -> None:
    color_model(tmp_path / "color.onnx")
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    color_image(tmp_path / "blue.png", "blue")
    run_mli("model", "pack", "color.onnx", "labels.txt", "blue.png", "-o", "good.zip", state=tmp_path, cwd=tmp_path)
    with zipfile.ZipFile(tmp_path / "good.zip") as good:
        content = {name: good.read(name) for name in good.namelist()}
    manifest = json.loads(content["manifest.json"])
    for expected in manifest["golden"][0]["expected"]:
        expected["confidence"] = 0.3
    content["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        for name, data in content.items():
            other.writestr(name, data)
    result = run_mli("model", "verify", "other.zip", state=tmp_path, cwd=tmp_path)
    assert result.returncode == 1
    assert "golden sample golden/blue.png" in result.stderr


def test_config_prints_the_long_form_without_passwords(tmp_path: Path) -> None:
    numbered_images(tmp_path / "images", 1)
    color_archive(tmp_path)
    (tmp_path / "run.yaml").write_text(
        "thing: gg_mli_accel\nmodel: color.zip\nsource: ./images\nbroker: mqtt://me:sesame@localhost\n"
    )
    result = run_mli("config", "run.yaml", "--json", state=tmp_path / "state", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    body = json.loads(result.stdout)
    assert body["pipelines"]["main"]["source"]["interval"] == 5
    assert body["pipelines"]["main"]["publish"]["topic"] == "mli/predictions/{thing}"
    assert "sesame" not in result.stdout
    schema = json.loads(run_mli("config", "--schema", state=tmp_path).stdout)
    assert "pipelines" in schema["properties"]


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["model", "pack", "--help"], ["--version"]])
def test_help(arguments: list[str], tmp_path: Path) -> None:
    result = run_mli(*arguments, state=tmp_path)
    assert result.returncode == 0
    assert result.stdout
