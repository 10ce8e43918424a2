"""Durations (``5s``) and sizes (``500MB``) as people write them."""

from __future__ import annotations

import re

_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {
    "B": 1,
    "KB": 1024,
    "MB": 1024**2,
    "GB": 1024**3,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
}
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_PIXELS = re.compile(r"\s*([1-9][0-9]{0,4})\s*[xX×]\s*([1-9][0-9]{0,4})\s*")


def parse_duration(value: object) -> float:
    """Seconds of ``5s``, ``200ms``, ``1.5m``, ``2h``, ``7d``, or of a plain number.

    Raises:
        ValueError: not a duration, saying what one looks like.
    """
    expected = "a duration such as 5s, 200ms, 1.5m, 2h or 7d"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError as error:
            raise ValueError(f"expected {expected}, found a number of {len(str(value))} digits") from error
    else:
        match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"expected {expected}, found {value!r}")
        number, unit = match.groups()
        if unit and unit.lower() not in _DURATIONS:
            raise ValueError(f"expected {expected}, found the unit {unit!r}")
        seconds = float(number) * _DURATIONS[unit.lower() or "s"]
    if not 0 <= seconds <= 10 * 365 * 86400:
        raise ValueError(f"expected {expected}, found {value!r}")
    return seconds


def parse_size(value: object) -> int:
    """Bytes of ``500MB`` (1 MB = 1,048,576 bytes, as the memory limits of systems count), or of a plain number.

    Raises:
        ValueError: not a size, saying what one looks like.
    """
    expected = "a size such as 500MB, 64KB or 2GB"
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected {expected}, found {value!r}")
    number, unit = match.groups()
    if unit and unit.upper() not in _SIZES:
        raise ValueError(f"expected {expected}, found the unit {unit!r}")
    size = int(float(number) * _SIZES[unit.upper() or "B"])
    if size < 1:
        raise ValueError(f"expected {expected}, found {value!r}")
    return size


def parse_pixels(value: object) -> tuple[int, int]:
    """Width and height of ``224x224``.

    Raises:
        ValueError: not a size in pixels.
    """
    match = _PIXELS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected width x height such as 224x224, found {value!r}")
    return int(match[1]), int(match[2])
