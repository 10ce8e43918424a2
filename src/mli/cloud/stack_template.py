"""A CloudFormation template, read: its parameters, its metadata, and which resources it would make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

Value = Any


class _Loader(yaml.SafeLoader):
    """Takes the short forms of CloudFormation's functions, such as ``!Sub``."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Value]:
    value: Value
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix in ("Ref", "Condition"):
        return {suffix: value}
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _function)


def read_template(text: str) -> Mapping[str, Value]:
    """The template with every function in its long form.

    Raises:
        ValueError: it is no template.
    """
    try:
        whole = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if not isinstance(whole, dict) or not isinstance(whole.get("Resources"), dict):
        raise ValueError("it has no Resources")
    return whole


def with_defaults(template: Mapping[str, Value], parameters: Mapping[str, str]) -> dict[str, str]:
    """Every parameter of the template with its value; those that the template does not have are left out."""
    return {
        name: str(parameters.get(name, told.get("Default", "")))
        for name, told in template.get("Parameters", {}).items()
    }


def refused_values(template: Mapping[str, Value], parameters: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Parameters whose value the template's own pattern does not take: name, value, what is expected."""
    return [
        (name, parameters[name], str(told.get("ConstraintDescription", told["AllowedPattern"])))
        for name, told in template.get("Parameters", {}).items()
        if "AllowedPattern" in told
        and name in parameters
        and not re.fullmatch(told["AllowedPattern"], parameters[name])
    ]


def resources_made(template: Mapping[str, Value], parameters: Mapping[str, str]) -> list[tuple[str, str]]:
    """Logical name and type of each resource that these parameters would make, as the template orders them.

    Raises:
        ValueError: a condition has a function that conditions do not take.
    """
    values = with_defaults(template, parameters)
    conditions = template.get("Conditions", {})
    return [
        (name, told["Type"])
        for name, told in template["Resources"].items()
        if "Condition" not in told or _holds(conditions[told["Condition"]], conditions, values)
    ]


def _holds(condition: Value, conditions: Mapping[str, Value], values: Mapping[str, str]) -> bool:
    ((name, told),) = condition.items()
    if name == "Condition":
        return _holds(conditions[told], conditions, values)
    if name == "Fn::Equals":
        left, right = (_value(item, values) for item in told)
        return left == right
    parts = [_holds(item, conditions, values) for item in told]
    if name == "Fn::Not":
        return not parts[0]
    if name in ("Fn::And", "Fn::Or"):
        return all(parts) if name == "Fn::And" else any(parts)
    raise ValueError(f"{name} in a condition")


def _value(item: Value, values: Mapping[str, str]) -> str:
    if not isinstance(item, dict):
        return str(item).lower() if isinstance(item, bool) else str(item)
    ((name, told),) = item.items()
    if name == "Ref":
        return values.get(told, "")
    if name == "Fn::Join":
        return str(told[0]).join(_value(part, values) for part in told[1])
    raise ValueError(f"{name} in a condition")
