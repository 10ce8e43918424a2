"""Text from outside, made safe to show: one line, no control characters, bounded."""

from __future__ import annotations


def one_line(text: str, max_characters: int = 200) -> str:
    """Escape what a terminal would obey or a reader could not see, and shorten what is too long.

    Control and formatting characters (escape sequences, line ends, text direction) become ``\\x1b``-like escapes.
    """
    shown = text if len(text) <= max_characters else text[: max_characters - 1] + "…"
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
