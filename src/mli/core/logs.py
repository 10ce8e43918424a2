"""The logs of a core: rotated files under the root, and standard error, which the journal reads under systemd.

``log/system/runtime.log`` has everything; ``log/user/<pipeline>.log`` has what one pipeline saw, skipped and fired,
and every record of the core that says ``extra={"pipeline": …}``. Whatever writes to Python's logging in this process,
also a library at debug, goes through formatters that take secrets out (``mli.config.redaction``).
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TextIO

from mli.config.redaction import hide
from mli.config.settings import LogSettings
from mli.core.log_format import JournalFormatter, JsonFormatter, TextFormatter, dated_prefix, journal_prefix
from mli.core.root import Root
from mli.errors import MliError, StopError

log = logging.getLogger(__name__)

_PIPELINE_LOGGER = "mli-pipeline"
_FILE_MODE = 0o640


@contextlib.contextmanager
def open_logs(
    settings: LogSettings,
    root: Root,
    *,
    thing: str | None = None,
    secrets: Iterable[str] = (),
    to_stderr: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[None]:
    """Log to the root's files, and to standard error where asked, until the end of the context.

    Args:
        thing: told with every JSON record.
        secrets: values to take out of every record, see ``mli.config.redaction.secrets_of``.
        to_stderr: with priorities and without the time where the journal listens.

    Raises:
        StopError: the files cannot be written.
    """
    hide(secrets)
    top, ours = logging.getLogger(), logging.getLogger("mli")
    levels = top.level, ours.level
    with contextlib.ExitStack() as stack:
        file = _file(root.system_log, settings, thing, TextFormatter())
        stderr = [_standard_error(settings, thing, environment)] if to_stderr else []
        handlers = [file, *stderr, _ByPipeline()]
        for handler in handlers:
            stack.callback(handler.close)
            stack.callback(top.removeHandler, handler)
            top.addHandler(handler)
        level = logging.getLevelNamesMapping()[settings.level.upper()]
        ours.setLevel(level)
        # What a library has to say below a warning is for those who look for a fault.
        top.setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
        stack.callback(ours.setLevel, levels[1])
        stack.callback(top.setLevel, levels[0])
        stack.enter_context(_nothing_past_the_log())
        try:
            yield
        except Exception as error:
            # Whoever catches it tells it on standard error; afterwards only the file can.
            file.handle(_last_word(error))
            raise


def pipeline_log(
    path: Path, name: str, settings: LogSettings | None = None, thing: str | None = None
) -> logging.Logger:
    """The log of one pipeline; it goes to its own file only.

    Raises:
        StopError: the file cannot be written.
    """
    logger = logging.getLogger(f"{_PIPELINE_LOGGER}.{name}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    close_log(logger)
    handler = _file(path, settings or LogSettings(), thing, TextFormatter(dated_prefix))
    handler.addFilter(_Named(name))
    logger.addHandler(handler)
    return logger


def close_log(logger: logging.Logger) -> None:
    """Close a log's files."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def journal_listens(environment: Mapping[str, str], descriptor: int) -> bool:
    """Whether a descriptor leads to systemd's journal, which reads priorities at the beginning of lines."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _last_word(error: Exception) -> logging.LogRecord:
    """That this ends with an error; of one that nobody foresaw, where it came from."""
    foreseen = isinstance(error, MliError)
    raised = None if foreseen else (type(error), error, error.__traceback__)
    return logging.LogRecord(log.name, logging.CRITICAL, "", 0, "ended by an error: %s", (error,), raised)


class _QuietFile(logging.handlers.RotatingFileHandler):
    """A full disk loses lines of a log, and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Nobody could be told of it here."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class _QuietStream(logging.StreamHandler[TextIO]):
    """Nobody reads standard error any more: the work goes on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """See the class."""


class _ByPipeline(logging.Handler):
    """Passes records that belong to a pipeline on to that pipeline's own file."""

    def emit(self, record: logging.LogRecord) -> None:
        name = getattr(record, "pipeline", None)
        if isinstance(name, str) and record.levelno >= logging.INFO:
            for handler in logging.getLogger(f"{_PIPELINE_LOGGER}.{name}").handlers:
                handler.handle(record)


class _Named(logging.Filter):
    """Lets everything pass, with the pipeline's name."""

    def __init__(self, pipeline: str) -> None:
        super().__init__()
        self._pipeline = pipeline

    def filter(self, record: logging.LogRecord) -> bool:
        record.pipeline = self._pipeline
        return True


def _file(path: Path, settings: LogSettings, thing: str | None, text: logging.Formatter) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE))
        _end_torn_line(path)
        handler = _QuietFile(path, maxBytes=settings.max_bytes, backupCount=settings.kept, encoding="utf-8")
    except OSError as error:
        raise StopError(
            f"the log cannot be written: {error.strerror}",
            where=str(path),
            remedy="make the folder writable for this user, or choose another --root",
        ) from error
    handler.setFormatter(JsonFormatter(thing) if settings.format == "json" else text)
    return handler


def _end_torn_line(path: Path) -> None:
    """A power cut can leave half a line, and so can a full disk, which may have no room for its end either."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        file.write(b"\n")


def _standard_error(settings: LogSettings, thing: str | None, environment: Mapping[str, str]) -> logging.Handler:
    journal = journal_listens(environment, 2)
    handler = _QuietStream(sys.stderr)
    formatter: logging.Formatter = TextFormatter(journal_prefix) if journal else TextFormatter()
    if settings.format == "json":
        formatter = JsonFormatter(thing)
    handler.setFormatter(JournalFormatter(formatter) if journal else formatter)
    return handler


@contextlib.contextmanager
def _nothing_past_the_log() -> Iterator[None]:
    """Warnings of Python and exceptions that end a thread are records too; otherwise they went out as they are."""

    def thread_ended(arguments: threading.ExceptHookArgs) -> None:
        name = arguments.thread.name if arguments.thread else "unknown"
        raised = arguments.exc_value
        if raised is not None:
            trace: TracebackType | None = arguments.exc_traceback
            log.critical("the thread %s ended: %s", name, raised, exc_info=(arguments.exc_type, raised, trace))

    before = threading.excepthook
    threading.excepthook = thread_ended
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        threading.excepthook = before
