"""Reads untrusted JSON and collects every problem in it, not only the first."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from mli.models.rules import shown

T = TypeVar("T")
_LARGEST = 2**53  # the largest whole number that every JSON reader keeps exact
_SHA256 = re.compile(r"[0-9a-f]{64}")


def parse_json(data: bytes) -> Any:
    """JSON values, without NaN and without a key that comes twice.

    Raises:
        ValueError: saying what is wrong, and where where that is known.
    """

    def refuse_constant(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a number")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"the key {shown(key)} comes twice")
            found[key] = value
        return found

    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=refuse_constant, object_pairs_hook=unique)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class _NoObject(dict[str, Any]):
    """Stands for what is no object: that its keys are missing is no further problem."""


class Checker:
    """Takes values out of JSON objects; what does not fit is noted under its path and replaced by a default."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def problem(self, path: str, text: str) -> None:
        self.problems.append(f"{path or 'top level'}: {text}")

    def object(self, value: Any, path: str, keys: Sequence[str]) -> dict[str, Any]:
        """An object with none but the given keys."""
        if not isinstance(value, dict):
            self.wrong(path, "an object", value)
            return _NoObject()
        for key in value:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, 1, 0.6)
                hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(keys)}"
                self.problem(path, f"unknown key {shown(key)}; {hint}")
        return value

    def get(self, data: Mapping[str, Any], path: str, key: str, take: Callable[[Any, str], T], default: T) -> T:
        """The value of a key that must be there."""
        inner = f"{path}.{key}" if path else key
        if key not in data:
            if not isinstance(data, _NoObject):
                self.problem(inner, "is missing")
            return default
        return take(data[key], inner)

    def optional(self, data: Mapping[str, Any], path: str, key: str, take: Callable[[Any, str], T], default: T) -> T:
        """The value of a key that may be missing, or null."""
        return default if data.get(key) is None else self.get(data, path, key, take, default)

    def wrong(self, path: str, wanted: str, value: Any) -> None:
        self.problem(path, f"expected {wanted}, found {_brief(value)}")

    def text(self, value: Any, path: str) -> str:
        if isinstance(value, str) and value.strip() and not any(c < " " or "\ud800" <= c <= "\udfff" for c in value):
            return value
        self.wrong(path, "a text without control characters", value)
        return ""

    def prose(self, value: Any, path: str) -> str:
        """Text that may have several lines."""
        if isinstance(value, str):
            self.text(re.sub(r"[\n\r\t]", " ", value) or "-", path)
            return value
        return self.text(value, path)

    def choice(self, allowed: tuple[T, ...]) -> Callable[[Any, str], T]:
        def take(value: Any, path: str) -> T:
            for known in allowed:
                if isinstance(value, str) and value == known:
                    return known
            names = [str(name) for name in allowed]
            near = difflib.get_close_matches(value, names, 1, 0.6) if isinstance(value, str) else []
            hint = f"; did you mean '{near[0]}'?" if near else ""
            self.problem(path, f"expected one of {', '.join(names)}, found {_brief(value)}{hint}")
            return allowed[0]

        return take

    def whole(self, low: int, high: int = _LARGEST) -> Callable[[Any, str], int]:
        def take(value: Any, path: str) -> int:
            if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
                return value
            self.wrong(path, f"a whole number from {low} to {high}", value)
            return low

        return take

    def number(self, low: float = -1e300, high: float = 1e300, *, above: bool = False) -> Callable[[Any, str], float]:
        """``above``: the lowest value itself is not allowed."""

        def take(value: Any, path: str) -> float:
            fits = isinstance(value, (int, float)) and not isinstance(value, bool)
            # Comparing first: a whole number of any length compares exactly, but may not fit a float.
            if fits and low <= value <= high and math.isfinite(value) and not (above and value == low):
                return float(value)
            bounds = f" above {low:g}" if above else f" from {low:g} to {high:g}" if high < 1e300 else ""
            self.wrong(path, f"a finite number{bounds}", value)
            return high if above else low

        return take

    def many(self, take: Callable[[Any, str], T], low: int, high: int) -> Callable[[Any, str], tuple[T, ...]]:
        def take_all(value: Any, path: str) -> tuple[T, ...]:
            if not isinstance(value, list) or not low <= len(value) <= high:
                count = f", {len(value)} long" if isinstance(value, list) else ""
                self.problem(path, f"expected a list of {low} to {high} values, found {_brief(value)}{count}")
                return ()
            return tuple(take(item, f"{path}[{index}]") for index, item in enumerate(value))

        return take_all

    def sha256(self, value: Any, path: str) -> str:
        if isinstance(value, str) and _SHA256.fullmatch(value):
            return value
        self.wrong(path, "a sha256 of 64 hexadecimal digits in lower case", value)
        return ""


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST:
        return "a number too large"
    return shown(value) if isinstance(value, str) else json.dumps(value)
