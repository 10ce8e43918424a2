"""docs/mxnet.md lists the operators that are supported, all of them and no other."""

from __future__ import annotations

from tests.fixtures.brokers import ROOT

from mli.models.mxnet.operators import OPERATORS

PAGE = ROOT / "docs" / "mxnet.md"
BEGIN, END = "<!-- operators: begin -->", "<!-- operators: end -->"


def test_the_page_lists_what_is_supported() -> None:
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    listed, found, _ = rest.partition(END)
    assert found, f"{PAGE} lacks {END}"
    assert listed.replace("`", "").split() == sorted(OPERATORS, key=lambda name: (name.lower(), name))
