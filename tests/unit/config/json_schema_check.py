"""A small check of a value against a JSON Schema: the keywords that the project's own schemas use, and no other."""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_WORDS = frozenset(
    {"$schema", "$id", "$defs", "title", "description", "default", "examples", "format", "type", "enum", "const"}
    | {
        "properties",
        "patternProperties",
        "additionalProperties",
        "required",
        "minProperties",
        "maxProperties",
        "items",
        "minItems",
    }
    | {"maxItems", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "anyOf", "$ref"}
)


def check(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None, at: str = "$") -> None:
    """Raise AssertionError, naming the place, where the value does not fit."""
    root = schema if root is None else root
    unknown = schema.keys() - _WORDS
    assert not unknown, f"{at}: this check does not know {unknown}"
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        check(value, target, root, at)
    if "anyOf" in schema:
        _any_of(value, schema["anyOf"], root, at)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    assert not kinds or any(_is(value, kind) for kind in kinds), f"{at}: {value!r} is no {kinds}"
    assert value in schema.get("enum", [value]), f"{at}: {value!r} is none of {schema['enum']}"
    assert value == schema.get("const", value), f"{at}: {value!r} is not {schema['const']}"
    if isinstance(value, dict):
        _object(value, schema, root, at)
    elif isinstance(value, list):
        assert schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)), at
        for index, item in enumerate(value):
            check(item, schema.get("items", {}), root, f"{at}[{index}]")
    elif isinstance(value, str):
        assert re.search(schema.get("pattern", ""), value), f"{at}: {value!r} is not {schema['pattern']}"
        assert schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)), f"{at}: length"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value), f"{at}: {value} out of range"
        assert value > schema.get("exclusiveMinimum", value - 1), f"{at}: {value} out of range"


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _any_of(value: Any, schemas: list[dict[str, Any]], root: dict[str, Any], at: str) -> None:
    wrong = []
    for schema in schemas:
        try:
            check(value, schema, root, at)
        except AssertionError as error:
            wrong.append(str(error))
        else:
            return
    raise AssertionError(f"{at}: none of anyOf fits: {'; '.join(wrong)}")


def _object(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> None:
    missing = [key for key in schema.get("required", []) if key not in value]
    assert not missing, f"{at}: {missing} missing"
    assert schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value)), f"{at}: keys"
    for key, item in value.items():
        parts = [schema["properties"][key]] if key in schema.get("properties", {}) else []
        parts += [part for pattern, part in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
        rest = schema.get("additionalProperties", True)
        assert parts or rest is not False, f"{at}: the key {key!r} is unknown"
        for part in parts or ([rest] if isinstance(rest, dict) else []):
            check(item, part, root, f"{at}.{key}")
