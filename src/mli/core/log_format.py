"""How a log's record becomes lines: text for people, an object for programs; never a secret, never a forged line.

Text that came from outside (a file's name, a payload, a broker's words) may hold line ends and escape sequences. In
the text form a record begins at the first column and everything else of it is indented, so that no such text can look
like a record; and what a terminal would obey is escaped.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from mli.config.redaction import redact
from mli.errors import MliError

MAX_CHARACTERS = 16 * 1024
"""A longer record is cut: a log must not be a way to fill the disk at once."""
CONTEXT = ("thing", "pipeline", "revision")
"""What a record may say about itself with ``extra={…}``."""

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7
_FIELD_INDENT = "  "
_TEXT_INDENT = "      "
"""Deeper than a field's: a text with line ends cannot look like ``to fix:``."""
_TRACE_INDENT = "  | "


def safe_text(text: str) -> str:
    """Without secrets, bounded, and with escapes for all that is not printable; line ends are kept."""
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]}… ({len(text) - MAX_CHARACTERS} characters more)"
    text = redact(text)
    return "\n".join(map(_printable, text.replace("\r\n", "\n").split("\n")))


def error_text(error: MliError) -> str:
    """An error as its own ``str`` has it, safe to show."""
    return "\n".join([safe_text(error.what), *field_lines(error)])


def field_lines(error: MliError) -> list[str]:
    """What an error says beside what happened: a line for each field, safe to show."""
    fields = (("where", error.where), ("expected", error.expected), ("found", error.got), ("to fix", error.remedy))
    lines = []
    for name, text in fields:
        if text:
            lines += _indented(f"{_FIELD_INDENT}{name + ':':10}{safe_text(text)}")
    return lines


def full_prefix(record: logging.LogRecord) -> str:
    """Time, level and logger."""
    return f"{time_text(record.created)} {record.levelname} {record.name}: "


def dated_prefix(record: logging.LogRecord) -> str:
    """Time and level, where the file itself says whose log it is."""
    return f"{time_text(record.created)} {record.levelname} "


def journal_prefix(record: logging.LogRecord) -> str:
    """The logger; the journal knows the time and, by its priority, the level."""
    return f"{record.name}: "


class TextFormatter(logging.Formatter):
    """A line for the message, then, indented, the fields of an error and a traceback.

    Args:
        prefix: what stands before the message.
        tracebacks: whether exceptions are told with theirs.
    """

    def __init__(self, prefix: Callable[[logging.LogRecord], str] = full_prefix, *, tracebacks: bool = True) -> None:
        super().__init__()
        self._prefix = prefix
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """One record, without the last line's end."""
        lines = _indented(safe_text(_message(record)))
        lines[0] = self._prefix(record) + lines[0]
        for error in _errors_of(record):
            lines += field_lines(error)
        if self._tracebacks:
            lines += [f"{_TRACE_INDENT}{line}" for line in _trace(record).split("\n") if line]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and where there are: thing, pipeline, revision, error, trace.

    Args:
        thing: told with every record.
    """

    def __init__(self, thing: str | None = None) -> None:
        super().__init__()
        self._thing = thing

    def format(self, record: logging.LogRecord) -> str:
        """One record as ASCII, so that it holds nothing that a terminal would obey."""
        body: dict[str, Any] = {
            "time": time_text(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": safe_text(_message(record)),
        }
        if self._thing is not None:
            body["thing"] = self._thing
        body |= {name: value for name in CONTEXT if (value := getattr(record, name, None)) is not None}
        for error in _errors_of(record)[:1]:
            body["error"] = {name: safe_text(text) for name, text in error.to_json().items() if text}
        if trace := _trace(record):
            body["trace"] = trace
        return json.dumps(body, default=str)


class JournalFormatter(logging.Formatter):
    """Lines for the journal: each with its priority, ``<3>`` and the like, which the journal takes off again."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """One record; the journal makes an entry of each line."""
        mark = f"<{next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG_PRIORITY)}>"
        return "\n".join(mark + line for line in self._inner.format(record).split("\n"))


def time_text(created: float) -> str:
    """Unix seconds as UTC with milliseconds: 2026-11-25T14:13:00.123Z."""
    milliseconds = int(created * 1000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{whole}.{milliseconds % 1000:03d}Z"


def _indented(text: str) -> list[str]:
    """The lines of a text, indented from the second on."""
    first, *more = text.split("\n")
    return [first, *(f"{_TEXT_INDENT}{line}" for line in more)]


def _message(record: logging.LogRecord) -> str:
    """The message, of errors only what happened; a wrong format must not lose the record."""
    arguments = record.args
    if isinstance(arguments, tuple):
        arguments = tuple(map(_what, arguments))
    elif isinstance(arguments, Mapping):
        arguments = {name: _what(item) for name, item in arguments.items()}
    text = str(_what(record.msg))
    try:
        return text % arguments if arguments else text
    except (TypeError, ValueError, KeyError):
        return f"{text} {arguments!r}"


def _what(item: object) -> object:
    return item.what if isinstance(item, MliError) else item


def _errors_of(record: logging.LogRecord) -> list[MliError]:
    """The errors that a record tells of: its arguments', else the one that was raised."""
    arguments = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
    raised = record.exc_info[1] if record.exc_info else None
    told = [item for item in (record.msg, *arguments) if isinstance(item, MliError)]
    return told or ([raised] if isinstance(raised, MliError) else [])


def _trace(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(logging.Formatter().formatException(record.exc_info))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return safe_text("\n".join(parts)) if parts else ""


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
