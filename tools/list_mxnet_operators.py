"""Write the list of supported MXNet operators into docs/mxnet.md: ``python -m tools.list_mxnet_operators``."""

from __future__ import annotations

import textwrap
from pathlib import Path

from mli.models.mxnet.operators import OPERATORS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "mxnet.md"
BEGIN, END = "<!-- operators: begin -->", "<!-- operators: end -->"


def main() -> None:
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    names = sorted(OPERATORS, key=lambda name: (name.lower(), name))
    listed = textwrap.fill(
        " ".join(f"`{name}`" for name in names), 118, break_long_words=False, break_on_hyphens=False
    )
    PAGE.write_text(f"{before}{begin}\n{listed}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
