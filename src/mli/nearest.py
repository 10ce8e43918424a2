"""The nearest right name, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known word nearest to ``word``, or nothing where none is near."""
    found = nearest_of(word, known)
    return f"; did you mean {found!r}?" if found is not None else ""


def nearest_of(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to ``word``; None where none is near."""
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else None
