"""What the library has to say to somebody at a terminal, in the form of all other remarks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def told_warnings() -> Iterator[None]:
    """Write warnings of mli to standard error as ``mli: …``; without it Python writes them bare."""
    from mli.core.log_format import TextFormatter

    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(TextFormatter(lambda _: "mli: ", tracebacks=False))
    logger = logging.getLogger("mli")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
