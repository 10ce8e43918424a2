"""Archives without a manifest, and label files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mli.errors import ArchiveRefused
from mli.models.contents import describe
from mli.models.labels import read_labels
from mli.types import ModelSpec

SHA256 = "ab" * 32


def folder(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"cat\ndog\n")
    return tmp_path


def test_a_model_and_its_labels_are_enough(tmp_path: Path) -> None:
    found = describe(folder(tmp_path, "net.tflite", "synset.txt"), SHA256, "pets-v2.tar.gz")
    assert found == ModelSpec(
        name="pets-v2",
        version="abababababab",
        sha256=SHA256,
        format="tflite",
        task="classification",
        directory=str(tmp_path),
        model_file="net.tflite",
        labels=("cat", "dog"),
    )


@pytest.mark.parametrize(
    "names",
    [
        ("model.onnx", "labels.txt"),
        ("model.onnx", "model.onnx.data", "weights.bin", "imagenet_labels.txt", "README.txt"),
        ("a/model.onnx", "b/my-synset.TXT", "notes.txt"),
        ("model.onnx", "classes.txt", "other.txt"),
        ("model.onnx", "coco.names"),
        ("model.onnx", "pets.txt", "LICENSE.txt"),
    ],
)
def test_the_labels_are_found_by_their_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert describe(folder(tmp_path, *names), SHA256, "m.zip").labels == ("cat", "dog")


def test_an_mxnet_model_is_told_by_its_files(tmp_path: Path) -> None:
    spec = describe(folder(tmp_path, "I-symbol.json", "I-0003.params", "synset.txt"), SHA256, "inception-bn.zip")
    assert (spec.name, spec.format, spec.model_file) == ("inception-bn", "mxnet", "I-symbol.json")
    assert spec.labels == ("cat", "dog")


def test_an_mxnet_model_has_its_labels_in_synset_txt_whatever_else_there_is(tmp_path: Path) -> None:
    names = ("I-symbol.json", "I-0000.params", "synset.txt")
    (folder(tmp_path, *names) / "labels.txt").write_text("1\n2\n3\n")
    assert describe(tmp_path, SHA256, "x.zip").labels == ("cat", "dog")


def test_sagemaker_needs_no_labels(tmp_path: Path) -> None:
    names = ("image-classification-symbol.json", "image-classification-0010.params", "model-shapes.json")
    assert describe(folder(tmp_path, *names), SHA256, "model.tar.gz").labels == ()


@pytest.mark.parametrize(
    ("names", "what", "detail"),
    [
        (("labels.txt",), "There is no model", "'labels.txt'"),
        (("a.onnx", "b.tflite", "labels.txt"), "holds 2 models", "'a.onnx', 'b.tflite'"),
        (("a.onnx", "labels.txt", "synset.txt"), "2 files that could be its labels", "'labels.txt', 'synset.txt'"),
        (("a.onnx", "b.txt", "c.txt"), "2 files that could be its labels", "'b.txt', 'c.txt'"),
        (("a.onnx",), "has no labels", "zip model.zip a.onnx labels.txt"),
        (("a.onnx", "README.txt"), "has no labels", "one label a line"),
        (("I-0000.params", "synset.txt"), "no MXNet symbol files", "'I-0000.params'"),
        (("I-symbol.json", "synset.txt"), "no parameters", "I-0000.params"),
        (("I-symbol.json", "I-0000.params"), "has no labels", "zip ARCHIVE.zip synset.txt"),
    ],
)
def test_what_is_not_one_model_is_refused_with_the_names(
    tmp_path: Path, names: tuple[str, ...], what: str, detail: str
) -> None:
    with pytest.raises(ArchiveRefused) as caught:
        describe(folder(tmp_path, *names), SHA256, "m.zip")
    assert what in caught.value.what
    assert detail in str(caught.value)


def labels(tmp_path: Path, data: bytes) -> tuple[str, ...]:
    path = tmp_path / "labels.txt"
    path.write_bytes(data)
    return read_labels(path)


def test_labels_of_real_files_are_read(tmp_path: Path) -> None:
    assert labels(tmp_path, b"\xef\xbb\xbfcrane\r\nK\xc3\xa4se\r\ncrane\r\n\r\n") == ("crane", "Käse", "crane")
    assert labels(tmp_path, b"n01440764 tench, Tinca tinca") == ("n01440764 tench, Tinca tinca",)


@pytest.mark.parametrize(
    ("data", "where", "found"),
    [
        (b"cat\n\ndog\n", "labels.txt, line 2", "an empty line"),
        (b"\ncat\n", "labels.txt, line 1", "an empty line"),
        (b"cat\ncaf\xe9\n", "labels.txt, line 2", "the byte 0xe9"),
        (b"cat\nd\x1bg\n", "labels.txt, line 2", "'d\\x1bg'"),
        (b"\n \n", "labels.txt", "no label"),
        (b"", "labels.txt", "no label"),
        (b"x" * (8 * 1024 * 1024 + 1), "labels.txt", "more"),
    ],
)
def test_labels_that_would_mislead_are_refused_with_their_line(
    tmp_path: Path, data: bytes, where: str, found: str
) -> None:
    with pytest.raises(ArchiveRefused) as caught:
        labels(tmp_path, data)
    assert caught.value.where == where
    assert found in (caught.value.got or "")
