"""Every call that mli makes to AWS exists in botocore's own models, with these parameters: the source is read.

Botocore refuses a parameter that it does not know, but only when the call is made; one on a way that is rarely taken
is seen here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import xform_name

import mli.cloud

SOURCES = sorted(Path(str(mli.cloud.__file__)).parent.rglob("*.py"))
SERVICES = (
    "cloudformation",
    "iot",
    "iot-data",
    "logs",
    "resourcegroupstaggingapi",
    "s3",
    "sts",
    "greengrassv2",
    "secretsmanager",
)


@dataclass(frozen=True)
class Call:
    where: str
    method: str
    parameters: frozenset[str]
    all_named: bool
    service: str | None


@lru_cache
def client(service: str) -> Any:
    return boto3.Session("key", "secret", region_name="eu-central-1").client(service)


@lru_cache
def operations(service: str) -> dict[str, Any]:
    model = client(service).meta.service_model
    return {xform_name(name): model.operation_model(name) for name in model.operation_names}


@lru_cache
def known_methods() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for service in SERVICES:
        for name in operations(service):
            found.setdefault(name, []).append(service)
    return found


def service_of(node: ast.expr, names: dict[str, str]) -> str | None:
    """The service of ``aws.client("iot")`` or of a name that was given one."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "client":
        first = node.args[0] if node.args else None
        return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
    return None


def calls_of(path: Path) -> Iterator[Call]:
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names: dict[str, str] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                for target, value in assigned(node):
                    service = service_of(value, names)
                    if service:
                        names[target] = service
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                found = call(node, node.func, names, f"{path.name}:{node.lineno}")
                if found is not None:
                    yield found


def assigned(node: ast.Assign) -> Iterator[tuple[str, ast.expr]]:
    for target in node.targets:
        if isinstance(target, ast.Name):
            yield target.id, node.value
        elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            for one, value in zip(target.elts, node.value.elts, strict=True):
                if isinstance(one, ast.Name):
                    yield one.id, value


def call(node: ast.Call, function: ast.Attribute, names: dict[str, str], where: str) -> Call | None:
    """The operation that is called, itself or through a paginator."""
    given = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
    all_named = all(keyword.arg for keyword in node.keywords)
    inner = function.value
    if function.attr == "paginate" and isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
        if inner.func.attr == "get_paginator" and isinstance(inner.args[0], ast.Constant):
            given -= {"PaginationConfig"}  # of the paginator, not of the operation
            return Call(where, str(inner.args[0].value), given, all_named, service_of(inner.func.value, names))
        return None
    if function.attr not in known_methods():
        return None
    service = service_of(inner, names)
    named = isinstance(inner, ast.Name) and "client" in inner.id
    return Call(where, function.attr, given, all_named, service) if service or named else None


CALLS = [found for path in SOURCES for found in calls_of(path)]


def test_the_calls_are_found() -> None:
    """The reader of the source sees what is there."""
    methods = {found.method for found in CALLS}
    assert {"create_change_set", "describe_certificate", "head_bucket", "list_object_versions", "publish"} <= methods
    assert len([found for found in CALLS if found.service]) > len(CALLS) / 2


@pytest.mark.parametrize("found", CALLS, ids=lambda found: f"{found.where}-{found.method}")
def test_a_call_is_one_that_its_service_takes(found: Call) -> None:
    services = [found.service] if found.service else known_methods().get(found.method, [])
    assert services, f"{found.method} is no operation of {SERVICES}"
    if found.service:
        assert found.method in operations(found.service), f"{found.service} has no {found.method}"
    assert any(found.parameters <= members(service, found.method) for service in services), found.parameters
    if found.all_named:
        assert any(required(service, found.method) <= found.parameters for service in services), found.parameters


def members(service: str, method: str) -> frozenset[str]:
    shape = operations(service)[method].input_shape
    return frozenset(shape.members) if shape else frozenset()


def required(service: str, method: str) -> frozenset[str]:
    shape = operations(service)[method].input_shape
    return frozenset(shape.required_members) if shape else frozenset()


@pytest.mark.parametrize(
    "source",
    [
        'def f(aws):\n    aws.client("iot").describe_certificate(certificate="x")',
        'def f(aws):\n    client, key = aws.client("iot"), 1\n    client.describe_thing(ThingName="x")',
        'def f(aws):\n    aws.client("s3").get_paginator("list_exports").paginate()',
        'def f(aws):\n    aws.client("iot").detach_policy(policyName="x")',
        'def f(client):\n    client.describe_stacks(Name="x")',
    ],
)
def test_a_wrong_call_would_be_seen(source: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(source)
    (found,) = calls_of(path)
    with pytest.raises(AssertionError):
        test_a_call_is_one_that_its_service_takes(found)
