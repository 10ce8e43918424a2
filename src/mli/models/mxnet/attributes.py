"""An operator's attributes: MXNet keeps them as text, written by Python or by C++."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

_LARGEST = 1e300
_LONG = re.compile(r"(?<=\d)L\b")  # Python 2 wrote (3L, 3L)
_TRUE, _FALSE = ("true", "1"), ("false", "0")
_DTYPES = ("float32", "float64", "float16", "bfloat16", "uint8", "int8", "int32", "int64", "bool")


class OperatorProblem(Exception):
    """An operator asks for what cannot be done, or its inputs do not fit; the translator adds the node's name.

    Attributes:
        expected, found: where a shape or value was other than it has to be.
    """

    def __init__(self, text: str, *, expected: str | None = None, found: str | None = None) -> None:
        super().__init__(text)
        self.expected = expected
        self.found = found


class ShapeProblem(OperatorProblem):
    """Shapes that do not fit each other: another input size, or another rounding of pooling, may make them fit."""


class Attributes:
    """Typed values of one operator's attributes; ``None`` in the text means the default.

    Every method raises OperatorProblem for a value that is not of its type.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return self._values.get(name, "None") != "None"

    def says_none(self, name: str) -> bool:
        """Whether the file says None, where that is other than MXNet's default."""
        return self._values.get(name) == "None"

    def text(self, name: str, default: str, choices: Sequence[str] = ()) -> str:
        value = self._values[name] if name in self else default
        if choices and value not in choices:
            raise OperatorProblem(f"attribute {name}", expected=" or ".join(choices), found=value)
        return value

    def boolean(self, name: str, default: bool) -> bool:
        if name not in self:
            return default
        value = self._values[name].lower()
        if value not in _TRUE + _FALSE:
            raise OperatorProblem(f"attribute {name}", expected="True or False", found=self._values[name])
        return value in _TRUE

    def integer(self, name: str, default: int | None = None) -> int:
        if name not in self:
            return int(self._given(name, default))
        value = self._value(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or abs(value) >= 2**63:
            raise OperatorProblem(f"attribute {name}", expected="a whole number", found=self._values[name])
        return int(value)

    def number(self, name: str, default: float | None = None) -> float:
        if name not in self:
            return float(self._given(name, default))
        try:
            return float(self._values[name])
        except ValueError as error:
            raise OperatorProblem(f"attribute {name}", expected="a number", found=self._values[name]) from error

    def integers(self, name: str, default: Sequence[int] | None = None, length: int | None = None) -> tuple[int, ...]:
        """``(3, 3)``, ``[3,3]`` or ``3``; of ``length`` elements, where one stands for all."""
        found = tuple(self._given(name, default)) if name not in self else self.optional_integers(name)
        whole = [item for item in found if item is not None]
        if len(whole) != len(found):
            raise OperatorProblem(f"attribute {name}", expected="whole numbers", found=self._values[name])
        if length is not None and len(whole) == 1:
            whole = whole * length
        if length is not None and len(whole) != length:
            raise OperatorProblem(f"attribute {name}", expected=f"{length} whole numbers", found=str(found))
        return tuple(whole)

    def optional_integers(self, name: str) -> tuple[int | None, ...]:
        """As :meth:`integers`, with None allowed inside: ``(None, 0)``. Empty where the attribute is missing."""
        if name not in self:
            return ()
        value = self._value(name)
        items = value if isinstance(value, tuple | list) else (value,)
        found: list[int | None] = []
        for item in items:
            if isinstance(item, float) and item.is_integer():
                item = int(item)
            if item is not None and (not isinstance(item, int) or abs(item) >= 2**63):
                raise OperatorProblem(f"attribute {name}", expected="whole numbers", found=self._values[name])
            found.append(None if item is None else int(item))
        return tuple(found)

    def numbers(self, name: str, default: Sequence[float] | None = None) -> tuple[float, ...]:
        """``(0.1, 0.2)`` or one number."""
        if name not in self:
            return tuple(self._given(name, default))
        value = self._value(name)
        items = value if isinstance(value, tuple | list) else (value,)
        if not all(isinstance(item, int | float) and abs(item) < _LARGEST for item in items):
            raise OperatorProblem(f"attribute {name}", expected="numbers", found=self._values[name])
        return tuple(float(item) for item in items)

    def dtype(self, name: str, default: str) -> str:
        """numpy's name of an element type; every floating-point type is computed as float32."""
        value = self.text(name, default, _DTYPES)
        return "float32" if "float" in value else value

    def _value(self, name: str) -> Any:
        text = self._values[name]
        try:
            if len(text) > 10_000:
                raise ValueError("too long")
            return ast.literal_eval(_LONG.sub("", text.strip()))
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise OperatorProblem(f"attribute {name}", expected="a number or a tuple", found=text[:80]) from error

    def _given(self, name: str, default: Any) -> Any:
        if default is None:
            raise OperatorProblem(f"attribute {name} is missing")
        return default
