"""A CloudFormation template that makes a group of Greengrass V1, to a ``Setup``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mli.cloud.migration.definitions import READERS, Part, shown
from mli.cloud.migration.intrinsics import Resolver, open_names
from mli.cloud.migration.setup import Code, Function, Other, Setup, Unread
from mli.errors import UsageError
from mli.nearest import nearest

PSEUDO = ("AWS::AccountId", "AWS::Partition", "AWS::Region", "AWS::StackId", "AWS::StackName", "AWS::URLSuffix")
"""Parameters that CloudFormation gives itself."""
MAX_PARAMETER = 4096
"""Characters of a value, as CloudFormation has it."""
_V1 = "AWS::Greengrass::"
_VERSION, _DEFINITION = "Version", "Definition"
_FUNCTIONS = ("AWS::Serverless::Function", "AWS::Lambda::Function")
_ALIASES = ("AWS::Lambda::Alias", "AWS::Lambda::Version")
_MAX_HOPS = 4
_REFERENCE = re.compile(r"\$\{([A-Za-z0-9]+)(?:\.[A-Za-z0-9.]+)?\}")


def is_template(value: Any) -> bool:
    """Whether a parsed file looks like a template of CloudFormation."""
    return isinstance(value, dict) and isinstance(value.get("Resources"), dict) and "Arn" not in value


def read_template(
    value: Mapping[str, Any], setup: Setup, given: Mapping[str, str], core_name: str | None = None
) -> None:
    """Read what a template makes into ``setup``.

    Args:
        given: values of parameters.
        core_name: of the parameter ``CoreName``, where there is one and ``given`` has none.

    Raises:
        UsageError: it makes no group of Greengrass V1, or several, or a parameter was given that it has not.
    """
    resources = {str(name): item for name, item in value["Resources"].items() if isinstance(item, dict)}
    types = {name: str(item.get("Type", "")) for name, item in resources.items()}
    _check_kind(types, setup)
    if core_name is not None and isinstance(value.get("Parameters"), dict) and "CoreName" in value["Parameters"]:
        given = {"CoreName": core_name, **given}
    setup.parameters, setup.open_parameters = _parameters(value, given, setup)
    setup.region = setup.parameters.get("AWS::Region")
    setup.core_name = setup.parameters.get("CoreName")
    resolver = Resolver(str(setup.source), value, setup.parameters)
    reading = _Reading(resources, types, resolver, setup)
    for name, item in resources.items():
        condition = item.get("Condition")
        if condition is not None and resolver.condition(condition) is False:
            setup.unread.append(Unread(f"Resources.{name}", f"not made: its condition {shown(condition)} is false"))
            types[name] = ""
    reading.groups()
    for name, kind in types.items():
        reading.resource(name, kind)
    reading.leave_out_code()


class _Reading:
    """One template's resources."""

    def __init__(
        self, resources: Mapping[str, Mapping[str, Any]], types: dict[str, str], resolver: Resolver, setup: Setup
    ) -> None:
        self._resources, self._types, self._resolver, self._setup = resources, types, resolver, setup
        self._wanted: set[str] = set()
        self._codes: set[str] = set()

    def groups(self) -> None:
        """Which definitions the group names; no other one is read."""
        for name, kind in self._types.items():
            if kind == f"{_V1}Group":
                part = self._part(name)
                self._setup.group = part.text("name")
                part.drop("rolearn", "tags")
                self._named(part.part("initialversion"))
                part.close()
            elif kind == f"{_V1}GroupVersion":
                part = self._part(name)
                part.drop("groupid")
                self._named(part)

    def _named(self, part: Part) -> None:
        for kind in READERS:
            reference = part.text(f"{kind}definitionversionarn")
            found = _REFERENCE.fullmatch(reference or "")
            if found is not None:
                self._wanted.add(found[1])
            elif reference is not None:
                part.note(f"{part.where}.{kind}DefinitionVersionArn", f"of another stack: {reference}")
        part.close()

    def resource(self, name: str, type_: str) -> None:
        """Read one resource; what is no part of Greengrass V1 is only named."""
        if type_ in ("", f"{_V1}Group", f"{_V1}GroupVersion"):
            return
        if not type_.startswith(_V1):
            self._setup.others.append(Other(name, type_, self._note(name, type_)))
            return
        kind = type_.removeprefix(_V1).removesuffix(_VERSION).removesuffix(_DEFINITION).lower()
        reader = READERS.get(kind)
        if reader is None:
            self._setup.unread.append(Unread(f"Resources.{name}", f"{type_}, which nobody here knows"))
            return
        part = self._part(name)
        definition = part if type_.endswith(_VERSION) else part.part("initialversion")
        part.drop("name", "tags", *(f"{known}definitionid" for known in READERS))
        if definition is part or self._says_something(name):
            if self._wanted and name not in self._wanted:
                self._setup.unread.append(Unread(f"Resources.{name}", "the group does not use it"))
                return
            before = len(self._setup.functions)
            reader(definition, self._setup)
            self._setup.functions[before:] = map(self._with_code, self._setup.functions[before:])
            definition.close()
        if definition is not part:
            part.close()

    def leave_out_code(self) -> None:
        """What was told with its function on the core is not told again as a resource of the cloud."""
        self._setup.others = [item for item in self._setup.others if item.name not in self._codes]

    def _says_something(self, name: str) -> bool:
        properties = self._resources[name].get("Properties")
        return isinstance(properties, dict) and "InitialVersion" in properties

    def _part(self, name: str) -> Part:
        properties = self._resolver.value(self._resources[name].get("Properties"))
        return Part(properties, f"Resources.{name}", self._setup)

    def _with_code(self, function: Function) -> Function:
        found = _REFERENCE.fullmatch(function.arn)
        name = found[1] if found else ""
        for _ in range(_MAX_HOPS):
            properties = self._resources.get(name, {}).get("Properties")
            properties = self._resolver.value(properties)
            if not isinstance(properties, dict):
                break
            if self._types.get(name) in _FUNCTIONS:
                self._codes.add(name)
                code = properties.get("CodeUri", properties.get("Code"))
                return replace(
                    function,
                    code=Code(
                        code if isinstance(code, str) else None if code is None else shown(code),
                        _text(properties.get("Handler")),
                        _text(properties.get("Runtime")),
                    ),
                )
            target = _REFERENCE.match(str(properties.get("FunctionName", "")))
            if self._types.get(name) not in _ALIASES or target is None:
                break
            name = target[1]
        return function

    def _note(self, name: str, type_: str) -> str:
        """What matters of a resource when the old stack goes."""
        properties = self._resolver.value(self._resources[name].get("Properties"))
        if not isinstance(properties, dict):
            return ""
        if type_.startswith(("Custom::", "AWS::CloudFormation::CustomResource")):
            thing = properties.get("ThingName")
            return f"its handler acts on the thing {thing}" if isinstance(thing, str) else "a handler of your own"
        if type_ in _FUNCTIONS:
            return " ".join(filter(None, (_text(properties.get("Handler")), _text(properties.get("Runtime")))))
        return ""


def _check_kind(types: Mapping[str, str], setup: Setup) -> None:
    where = str(setup.source)
    groups = [name for name, kind in types.items() if kind == f"{_V1}Group"]
    if len(groups) > 1:
        raise UsageError(
            "the template makes several groups",
            where=where,
            got=", ".join(groups[:8]),
            remedy="migrate each device's own folder instead: mli migrate /greengrass",
        )
    if any(kind.startswith(_V1) for kind in types.values()):
        return
    newer = any(kind.startswith("AWS::GreengrassV2::") for kind in types.values())
    got = (
        "Greengrass V2, which needs no migration"
        if newer
        else ", ".join(sorted(set(types.values()))[:6]) or "nothing"
    )
    raise UsageError(
        "the template makes nothing of Greengrass V1",
        where=where,
        expected="resources of the types AWS::Greengrass::Group, AWS::Greengrass::FunctionDefinition …",
        got=got,
    )


def _parameters(
    value: Mapping[str, Any], given: Mapping[str, str], setup: Setup
) -> tuple[dict[str, str], tuple[str, ...]]:
    section = value.get("Parameters")
    declared: dict[str, Any] = section if isinstance(section, dict) else {}
    known = (*declared, *PSEUDO)
    for name, text in given.items():
        if name not in known:
            raise UsageError(
                f"the template has no parameter {name!r}{nearest(name, known)}",
                where=str(setup.source),
                expected=", ".join(declared) or "none",
            )
        if len(text) > MAX_PARAMETER:
            raise UsageError(f"the value of the parameter {name} is too long", expected=f"at most {MAX_PARAMETER:,}")
    found = dict(given)
    for name, item in declared.items():
        default = item.get("Default") if isinstance(item, dict) else None
        stored = isinstance(item, dict) and str(item.get("Type", "")).startswith("AWS::SSM::Parameter::")
        if isinstance(default, str) and not stored and len(default) <= MAX_PARAMETER:
            found.setdefault(name, default)
    return found, tuple(name for name in declared if name not in found)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def open_parameters_of(text: str, setup: Setup) -> list[str]:
    """Parameters of the template, without a value, that a text hangs on."""
    return [name for name in open_names(text) if name in setup.open_parameters or name in PSEUDO]
