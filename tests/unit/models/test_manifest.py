"""manifest.json: what it says comes back, and every problem of a bad one is named at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.models.model_files import FILES, MANIFEST, make_tar, make_zip, members

from mli.errors import ArchiveRefused
from mli.models.manifest import Manifest
from mli.models.packing import verify

MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {"zip": make_zip, "tar.gz": make_tar}


def problems(change: Callable[[dict[str, Any]], object]) -> str:
    value = json.loads(MANIFEST.to_bytes())
    change(value)
    with pytest.raises(ArchiveRefused) as caught:
        Manifest.parse(json.dumps(value).encode())
    return caught.value.what


def test_it_comes_back_as_it_was_written() -> None:
    data = MANIFEST.to_bytes()
    assert Manifest.parse(data) == MANIFEST
    assert Manifest.parse(data).to_bytes() == data
    assert json.loads(data)["schema"] == "mli.manifest/1"


def test_what_is_optional_may_be_missing() -> None:
    value = json.loads(MANIFEST.to_bytes())
    for key in ("golden", "license", "description"):
        del value[key]
    value["input"] = {"name": "data", "width": 2, "height": 3}
    manifest = Manifest.parse(json.dumps(value).encode())
    assert (manifest.golden, manifest.license, manifest.background) == ((), None, None)
    assert (manifest.input.layout, manifest.input.mean, manifest.input.scale) == ("NCHW", (0.0,), (1.0,))


def test_all_problems_are_named_at_once() -> None:
    def spoil(value: dict[str, Any]) -> None:
        del value["name"]
        value["lables"] = "x"
        value["format"] = "onx"
        value["input"]["width"] = "224"
        value["input"]["height"] = True
        value["input"]["mean"] = [1, 2]
        value["outputs"][0]["quantization"]["scale"] = 0
        value["golden"][0]["expected"][0]["box"]["left"] = None
        value["files"]["model.onnx"]["sha256"] = "ABC"

    found = problems(spoil)
    for text in (
        "name: is missing",
        "unknown key 'lables'; did you mean 'labels'?",
        "format: expected one of onnx, tflite, found 'onx'; did you mean 'onnx'?",
        "input.width: expected a whole number from 1 to 16384, found '224'",
        "input.height: expected a whole number from 1 to 16384, found true",
        "input.mean: expected 1 or 3 values, found 2",
        "outputs[0].quantization.scale: expected a finite number above 0, found 0",
        "golden[0].expected[0].box.left: expected a finite number, found null",
        "files.'model.onnx'.sha256: expected a sha256",
    ):
        assert text in found
    assert "9 problems" in found


SPOILED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other schema": (lambda v: v.update(schema="mli.manifest/2"), "schema: expected one of mli.manifest/1"),
    "escaping model": (lambda v: v.update(model="../model.onnx"), "model: expected paths without '.' and '..'"),
    "absolute file": (lambda v: v["files"].update({"/x": {"sha256": "0" * 64, "bytes": 1}}), "an absolute path"),
    "lists itself": (
        lambda v: v["files"].update({"manifest.json": {"sha256": "0" * 64, "bytes": 1}}),
        "cannot list itself",
    ),
    "model not listed": (lambda v: v.update(model="other.onnx"), "model: 'other.onnx' is not among files"),
    "image not listed": (lambda v: v["golden"][0].update(image="x.png"), "golden[0].image: 'x.png' is not among"),
    "another format": (lambda v: v.update(format="tflite"), "it is tflite, but model is 'model.onnx'"),
    "negative size": (lambda v: v["files"]["model.onnx"].update(bytes=-1), "expected a whole number from 0"),
    "infinite": (lambda v: v["input"].update(scale=[1e999]), "Infinity is not a number"),
    "huge number": (lambda v: v["input"].update(scale=[10**400]), "found a number too large"),
    "classifier of boxes": (lambda v: v["outputs"][0].update(kind="boxes"), "a classifier has one output"),
    "detector of logits": (lambda v: v.update(task="detection"), "a detector has two outputs"),
    "classifier of rows": (lambda v: v["outputs"][0].update(kind="detections"), "a classifier has one output"),
    "detector of rows and boxes": (
        lambda v: v.update(
            task="detection", outputs=[{"name": "a", "kind": "detections"}, {"name": "b", "kind": "boxes"}]
        ),
        "or one, detections or yolo; found ['boxes', 'detections']",
    ),
    "no outputs": (lambda v: v.update(outputs=[]), "outputs: expected a list of 1 to 64 values"),
    "empty object": (lambda v: v.update(input={}), "input.height: is missing"),
    "list for object": (lambda v: v.update(input=[]), "input: expected an object, found a list"),
    "files as list": (lambda v: v.update(files=[]), "files: expected an object of paths"),
    "gray with three means": (lambda v: v["input"].update(color="gray"), "input.mean: expected a list of 1 to 1"),
    "terminal codes": (lambda v: v.update(name="a\x1b[2J"), "name: expected a text without control characters"),
    "half a surrogate": (lambda v: v.update(version="\ud800"), "version: expected a text"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_value_that_cannot_be_is_named(case: str) -> None:
    change, text = SPOILED[case]
    assert text in problems(change)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "it is not JSON"),
        (b"\xff", "it is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": 1, "a": 2}', "the key 'a' comes twice"),
        (b"9" * 5000, "it is not JSON"),
        (b"[]", "a problem:\n  - top level: expected an object, found a list"),
        (b"{}", "name: is missing"),
        (b" " * (4 * 1024 * 1024 + 1), "expected at most"),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ArchiveRefused) as caught:
        Manifest.parse(data)
    assert text in caught.value.what


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_is_taken_or_refused(data: st.DataObject) -> None:
    value = json.loads(MANIFEST.to_bytes())
    place: Any = value
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            place[key] = data.draw(json_values)
            break
        place = inner
    try:
        manifest = Manifest.parse(json.dumps(value).encode())
    except ArchiveRefused:
        return
    assert Manifest.parse(manifest.to_bytes()) == manifest


def refused(tmp_path: Path, form: str, files: dict[str, bytes], manifest: Manifest = MANIFEST) -> ArchiveRefused:
    archive = MAKERS[form](tmp_path / f"pets.{form}", {"manifest.json": manifest.to_bytes(), **files})
    with pytest.raises(ArchiveRefused) as caught:
        verify(archive)
    return caught.value


@pytest.mark.parametrize("form", MAKERS)
def test_a_file_that_is_not_listed_is_refused(tmp_path: Path, form: str) -> None:
    error = refused(tmp_path, form, {**FILES, "run.sh": b"rm"})
    assert "member 'run.sh' (rule extra)" in error.what


@pytest.mark.parametrize("form", MAKERS)
def test_a_listed_file_that_is_missing_is_refused(tmp_path: Path, form: str) -> None:
    error = refused(tmp_path, form, {p: b for p, b in FILES.items() if p != "labels.txt"})
    assert "member 'labels.txt' (rule missing)" in error.what


@pytest.mark.parametrize("form", MAKERS)
@pytest.mark.parametrize("change", [b"Weights" * 1000, b"weights"])
def test_a_file_of_another_digest_is_refused_with_both(tmp_path: Path, form: str, change: bytes) -> None:
    error = refused(tmp_path, form, {**FILES, "model.onnx": change})
    assert "member 'model.onnx' (rule file-digest)" in error.what
    assert members(FILES)[2].sha256 in (error.expected or "")
    assert members({"x": change})[0].sha256 in (error.got or "")


@pytest.mark.parametrize("form", MAKERS)
def test_golden_labels_and_background_must_fit_the_labels(tmp_path: Path, form: str) -> None:
    error = refused(tmp_path, form, FILES, replace(MANIFEST, background="nothing"))
    assert (error.expected, error.got) == ("one of the 2 labels", "'nothing'")
    sample = replace(MANIFEST.golden[0], expected=(replace(MANIFEST.golden[0].expected[0], class_id=1),))
    error = refused(tmp_path, form, FILES, replace(MANIFEST, golden=(sample,)))
    assert (error.expected, error.got) == ("'dog', the label of class 1", "'cat'")
    sample = replace(MANIFEST.golden[0], expected=(replace(MANIFEST.golden[0].expected[0], class_id=2),))
    assert "below 2" in (refused(tmp_path, form, FILES, replace(MANIFEST, golden=(sample,))).expected or "")
