"""What the functions of a CloudFormation template give, as far as it can be known without an account.

What cannot be known stays in the text as ``${Name}``: a parameter without a value, a resource (``${Function.Arn}``),
a pseudo parameter. So nothing is guessed, and everything can be shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mli.errors import UsageError

MAX_TEXT = 64 * 1024
_PLACE = re.compile(r"\$\{([^}]*)\}")
_REMOVE: Any = object()


def open_names(text: str) -> list[str]:
    """Names in a text that stand for something unknown: ``CertIdParam``, ``AWS::Region``."""
    return list(dict.fromkeys(_PLACE.findall(text)))


def is_open(text: str) -> bool:
    """Whether a part of a text is unknown."""
    return _PLACE.search(text) is not None


class Resolver:
    """Values of a template's properties.

    Args:
        name: of the file, for errors.
        parameters: name and value of each one that has a value, pseudo parameters such as ``AWS::Region`` too.
    """

    def __init__(self, name: str, template: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        self._name = name
        self._parameters = parameters
        self._lists = _list_parameters(template)
        self._mappings = _section(template, "Mappings")
        self._conditions = _section(template, "Conditions")
        self._decided: dict[str, bool | None] = {}

    def value(self, value: Any) -> Any:
        """The value with all functions worked out; texts, lists, objects, None.

        Raises:
            UsageError: functions that give more text than any set-up needs.
        """
        if isinstance(value, list):
            return [item for item in map(self.value, value) if item is not _REMOVE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((key, argument),) = value.items()
            if key == "Ref" or key.startswith("Fn::"):
                return self._function(key, argument)
        items = {key: self.value(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if item is not _REMOVE}

    def _function(self, key: str, argument: Any) -> Any:
        name = key.removeprefix("Fn::")
        method = {
            "Ref": self._ref,
            "GetAtt": self._attribute,
            "Sub": self._sub,
            "Join": self._join,
            "Split": self._split,
            "Select": self._select,
            "If": self._if,
            "FindInMap": self._find,
        }.get(name)
        result = None if method is None else method(argument)
        return f"${{{name}:{_brief(argument)}}}" if result is None else result

    def _ref(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return None
        if argument == "AWS::NoValue":
            return _REMOVE
        value = self._parameters.get(argument)
        if value is None:
            return f"${{{argument}}}"
        return [item.strip() for item in value.split(",")] if argument in self._lists else value

    def _attribute(self, argument: Any) -> Any:
        parts = argument.split(".") if isinstance(argument, str) else self.value(argument)
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            return None
        return f"${{{'.'.join(parts)}}}"

    def _sub(self, argument: Any) -> Any:
        text, own = argument, {}
        if isinstance(argument, list) and len(argument) == 2 and isinstance(argument[1], dict):
            text, own = argument[0], {key: self.value(item) for key, item in argument[1].items()}
        if not isinstance(text, str):
            return None

        parts = []
        for index, part in enumerate(_PLACE.split(text)):  # every second one is a name
            name = part.strip()
            known = own.get(name, self._parameters.get(name)) if index % 2 else part
            parts.append(known if isinstance(known, str) else f"${{{name.removeprefix('!')}}}")
        return self._joined("", parts)

    def _join(self, argument: Any) -> Any:
        parts = self.value(argument)
        if not isinstance(parts, list) or len(parts) != 2 or not isinstance(parts[0], str):
            return None
        items = parts[1]
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            return None
        return self._joined(parts[0], items)

    def _split(self, argument: Any) -> Any:
        parts = self.value(argument)
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            return None
        return parts[1].split(parts[0]) if parts[0] and not is_open(parts[1]) else None

    def _select(self, argument: Any) -> Any:
        parts = self.value(argument)
        if not isinstance(parts, list) or len(parts) != 2 or not isinstance(parts[1], list):
            return None
        index = parts[0]
        if not isinstance(index, str) or not index.isdecimal() or int(index[:9]) >= len(parts[1]):
            return None
        return parts[1][int(index)]

    def _find(self, argument: Any) -> Any:
        keys = self.value(argument)
        if not isinstance(keys, list) or len(keys) != 3 or not all(isinstance(key, str) for key in keys):
            return None
        found: Any = self._mappings
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, str) else None

    def _if(self, argument: Any) -> Any:
        if not isinstance(argument, list) or len(argument) != 3:
            return None
        chosen = self.condition(argument[0])
        return None if chosen is None else self.value(argument[1 if chosen else 2])

    def condition(self, name: Any) -> bool | None:
        """Whether a condition of the template holds; None where that cannot be known."""
        if not isinstance(name, str) or name not in self._conditions:
            return None
        if name not in self._decided:
            self._decided[name] = None  # for one that asks for itself
            self._decided[name] = self._truth(self._conditions[name])
        return self._decided[name]

    def _truth(self, value: Any) -> bool | None:
        if not isinstance(value, dict) or len(value) != 1:
            return None
        ((key, argument),) = value.items()
        if key == "Condition":
            return self.condition(argument)
        items = argument if isinstance(argument, list) else []
        if key == "Fn::Equals" and len(items) == 2:
            left, right = map(self.value, items)
            known = isinstance(left, str) and isinstance(right, str) and not is_open(left) and not is_open(right)
            return left == right if known else None
        truths = [self._truth(item) for item in items]
        if key == "Fn::Not" and len(truths) == 1:
            return None if truths[0] is None else not truths[0]
        if key == "Fn::And" and truths:
            return False if False in truths else None if None in truths else True
        if key == "Fn::Or" and truths:
            return True if True in truths else None if None in truths else False
        return None

    def _joined(self, between: str, parts: list[str]) -> str:
        if sum(map(len, parts)) + len(between) * len(parts) > MAX_TEXT:
            raise UsageError(
                "the template's functions give a text that is too long",
                where=self._name,
                expected=f"at most {MAX_TEXT:,} characters",
            )
        return between.join(parts)


def _section(template: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = template.get(name)
    return section if isinstance(section, dict) else {}


def _list_parameters(template: Mapping[str, Any]) -> frozenset[str]:
    declared = _section(template, "Parameters").items()
    return frozenset(
        name
        for name, item in declared
        if isinstance(item, dict) and str(item.get("Type", "")).startswith(("CommaDelimitedList", "List<"))
    )


def _brief(argument: Any) -> str:
    text = argument if isinstance(argument, str) else "…"
    return text if len(text) <= 60 else f"{text[:59]}…"
