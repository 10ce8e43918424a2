"""Log files under the root, rotated; one for the core, one for each pipeline."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
from pathlib import Path

from mli.errors import StopError

MAX_BYTES = 5 * 1024 * 1024
KEPT = 3
_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
_DATE = "%Y-%m-%dT%H:%M:%S"


def log_to_file(path: Path, level: str) -> logging.Handler:
    """Send everything that mli logs to ``path``.

    Raises:
        StopError: the file cannot be written.
    """
    handler = _rotating(path)
    handler.setFormatter(logging.Formatter(_FORMAT, _DATE))
    logger = logging.getLogger("mli")
    logger.setLevel(level.upper())
    logger.addHandler(handler)
    return handler


def pipeline_log(path: Path, name: str) -> logging.Logger:
    """The log of one pipeline; it goes to its own file only."""
    logger = logging.getLogger(f"mli-pipeline.{name}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    close_log(logger)
    handler = _rotating(path)
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", _DATE))
    logger.addHandler(handler)
    return logger


def close_log(logger: logging.Logger) -> None:
    """Close a log's files."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


class _QuietFile(logging.handlers.RotatingFileHandler):
    """A full disk loses lines of a log, and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Nobody could be told of it here."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def _rotating(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _QuietFile(path, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8")
    except OSError as error:
        raise StopError(f"the log cannot be written: {error.strerror}", where=str(path)) from error
