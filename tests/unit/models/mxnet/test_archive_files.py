"""Which files of an archive are its MXNet model."""

from __future__ import annotations

import pytest

from mli.errors import ArchiveRefused
from mli.models.mxnet.archive_files import find_mxnet

SYMBOL = "Inception-BN-symbol.json"


@pytest.mark.parametrize(
    ("params", "wanted", "chosen", "others"),
    [
        (["Inception-BN-0000.params"], None, "Inception-BN-0000.params", ()),
        (["whatever.params"], None, "whatever.params", ()),
        (["Inception-BN-0003.params", "Inception-BN-0012.params"], None, "Inception-BN-0012.params", (3,)),
        (["Inception-BN-0003.params", "Inception-BN-0012.params"], 3, "Inception-BN-0003.params", (12,)),
        (["Inception-BN-0001.params", "other-0009.params"], None, "Inception-BN-0001.params", ()),
        (["Inception-BN-10000.params", "Inception-BN-9999.params"], None, "Inception-BN-10000.params", (9999,)),
    ],
)
def test_the_only_or_highest_or_wanted_epoch_is_taken(
    params: list[str], wanted: int | None, chosen: str, others: tuple[int, ...]
) -> None:
    found = find_mxnet([SYMBOL, "synset.txt", *params], "x.zip", wanted)
    assert (found.symbol, found.params, found.other_epochs) == (SYMBOL, chosen, others)
    assert found.kind == "mxnet"


@pytest.mark.parametrize(
    ("files", "epoch", "expected", "got"),
    [
        (["net-0000.params"], None, "one NAME-symbol.json", "net-0000.params"),
        (["a-symbol.json", "b-symbol.json", "a-0000.params"], None, "one NAME-symbol.json", "b-symbol.json"),
        (["net-symbol.json", "synset.txt"], None, "net-0000.params beside net-symbol.json", "synset.txt"),
        (["net-symbol.json", "net-0001.params"], 7, "net-0007.params", "net-0001.params"),
        (["net-symbol.json", "one.params", "two.params"], None, "one parameters file", "two.params"),
    ],
    ids=["no symbol", "two symbols", "no parameters", "no such epoch", "two without epoch"],
)
def test_what_is_missing_or_too_much_is_said(files: list[str], epoch: int | None, expected: str, got: str) -> None:
    with pytest.raises(ArchiveRefused) as caught:
        find_mxnet(files, "x.zip", epoch)
    assert expected in (caught.value.expected or "")
    assert got in (caught.value.got or "")


def test_archives_of_sagemaker_are_recognised() -> None:
    classification = ["image-classification-symbol.json", "image-classification-0010.params", "model-shapes.json"]
    found = find_mxnet(classification, "model.tar.gz")
    assert (found.kind, found.shapes, found.epoch) == ("sagemaker image classification", "model-shapes.json", 10)
    detection = ["model_algo_1-symbol.json", "model_algo_1-0000.params", "hyperparams.json"]
    found = find_mxnet(detection, "model.tar.gz")
    assert (found.kind, found.hyperparams) == ("sagemaker object detection", "hyperparams.json")
