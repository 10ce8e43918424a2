"""Progress of long work on standard error, where that is a terminal."""

from __future__ import annotations

import sys
import time

_BAR = 30
_EVERY_S = 0.1
_SHOW_AFTER_S = 0.3


class InstallProgress:
    """A bar while an archive is installed, or something else is done with it; short work shows none."""

    def __init__(self, what: str = "installing the model") -> None:
        self._what = what
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> InstallProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown_at:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def update(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` bytes are done."""
        now = time.monotonic()
        if not self._terminal or now - self._started < _SHOW_AFTER_S or now - self._shown_at < _EVERY_S:
            return
        self._shown_at = now
        part = min(1.0, done / total) if total else 0.0
        bar = "█" * round(part * _BAR)
        sys.stderr.write(f"\r{self._what}  {bar:<{_BAR}} {part:4.0%} of {total / 1e6:,.0f} MB")
        sys.stderr.flush()
