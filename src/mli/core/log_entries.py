"""Lines of a log back to records, in whichever form they were written, and from there to either form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from mli.core.log_reading import begins_record

_FIELDS = {"where": "where", "expected": "expected", "found": "got", "to fix": "remedy"}
_LABELS = {key: label for label, key in _FIELDS.items()}
_FIRST = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT[\d:.]+Z?) (?P<level>[A-Z]+) (?:(?P<logger>[\w.-]+): )?(?P<message>.*)"
)
_FIELD = re.compile(r"  (where|expected|found|to fix): +(.*)")
_TRACE = "  | "


def records_of(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines of each record. What stands before the first record is a record too."""
    record: list[str] = []
    for line in lines:
        if begins_record(line) and record:
            yield record
            record = []
        record.append(line)
    if record:
        yield record


def as_object(record: list[str]) -> dict[str, Any]:
    """A record as the JSON form has it; a line that no core wrote becomes a message without time and level."""
    body = _json_object(record[0])
    if body is not None:
        return body
    first = _FIRST.fullmatch(record[0])
    if first is None:
        return {"message": "\n".join(record)}
    body = {"time": first["time"], "level": first["level"].lower()}
    if first["logger"]:
        body["logger"] = first["logger"]
    message, error, trace = [first["message"]], {}, []
    into: str | None = None
    for line in record[1:]:
        field = _FIELD.fullmatch(line)
        if line.startswith(_TRACE):
            trace.append(line.removeprefix(_TRACE))
        elif field is not None:
            into = _FIELDS[field[1]]
            error[into] = field[2]
        elif into is not None:
            error[into] += f"\n{line.strip()}"
        else:
            message.append(line.strip())
    body["message"] = "\n".join(message)
    if error:
        body["error"] = {"what": body["message"], **error}
    if trace:
        body["trace"] = "\n".join(trace)
    return body


def as_text(record: list[str]) -> list[str]:
    """A record as lines for a person."""
    body = _json_object(record[0])
    if body is None:
        return record
    logger = f"{body['logger']}: " if "logger" in body and not body["logger"].startswith("mli-pipeline") else ""
    told = f"{body.get('time', '')} {str(body.get('level', '')).upper()} {logger}{body.get('message', '')}"
    lines = _indented(told.strip())
    error = body.get("error")
    for key, text in error.items() if isinstance(error, dict) else ():
        if key in _LABELS:
            lines += _indented(f"  {_LABELS[key] + ':':10}{text}")
    return lines + [f"{_TRACE}{line}" for line in str(body.get("trace", "")).split("\n") if line]


def _indented(text: str) -> list[str]:
    first, *more = text.split("\n")
    return [first, *(f"      {line}" for line in more)]


def _json_object(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
