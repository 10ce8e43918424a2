"""Pages of which a part is written by a program: what stands between two markers."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put ``text`` between the markers of a page; what people wrote around them stays.

    Raises:
        LookupError: a marker is missing.
    """
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise LookupError(f"{page}: the markers {begin} and {end} are missing")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
