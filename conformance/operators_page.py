"""Write the list of supported MXNet operators into docs/mxnet.md: ``python -m conformance.operators_page``."""

from __future__ import annotations

import textwrap

from conformance.marked_page import write_between
from conformance.report import PAGE
from mli.models.mxnet.operators import OPERATORS

BEGIN, END = "<!-- operators: begin -->", "<!-- operators: end -->"


def main() -> None:
    """Every name that is supported, in order."""
    names = sorted(OPERATORS, key=lambda name: (name.lower(), name))
    words = " ".join(f"`{name}`" for name in names)
    write_between(PAGE, BEGIN, END, textwrap.fill(words, 118, break_long_words=False, break_on_hyphens=False))


if __name__ == "__main__":
    main()
