"""What a Greengrass component sees, its environment and its configuration, to settings.

The configuration comes over the network: whoever may deploy to the thing writes it, its ``device`` part as well. So
far a Greengrass deployment reaches in any case: it can run any program here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from mli.config.build_device import build_device
from mli.config.fields import Duration
from mli.config.paths import Problems
from mli.config.problems import problems_of
from mli.config.refusals import refusal
from mli.config.schema import DeviceFile, Section
from mli.config.settings import DeviceSettings, NucleusSettings
from mli.config.short_form import Expansion
from mli.config.yaml_places import PlacedYaml
from mli.errors import UsageError
from mli.nearest import nearest

NAME = "the component's configuration"
KEYS = ("deployment", "delivery", "device", "validate_within", "accessControl")
CLIENT_SUFFIX = "-mli"
"""Of the client id of our own connection: the nucleus' own is the thing, and the same one twice ends both."""
MAX_DEPTH = 32
"""Levels of the whole configuration; a deployment in it has fewer."""
CERTIFICATE, PRIVATE_KEY = "thing.cert.pem", "thing.private.key"
"""Where the nucleus was installed with our files they lie beside its CA under these names."""

_VARIABLES = {
    "AWS_IOT_THING_NAME": "the thing's name",
    "SVCUID": "the component's identity",
    "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": "the path of the nucleus' socket",
}


@dataclass(frozen=True, slots=True)
class ComponentEnvironment:
    """What the nucleus gives its component.

    Attributes:
        ca_path: PEM file of the authorities that it trusts.
        nucleus_version: for the log.
    """

    thing: str
    nucleus: NucleusSettings
    region: str | None = None
    ca_path: str | None = None
    nucleus_version: str | None = None


@dataclass(frozen=True, slots=True)
class ComponentSettings:
    """A component's configuration, checked.

    Attributes:
        delivery: how predictions leave: through the nucleus, or over a connection of our own.
        deployment: JSON; empty where none is wanted.
        validate_within_s: so long a proposed deployment may be tried out before the nucleus gets its answer.
        held: why the connection of our own is not possible; predictions then wait in the spool.
    """

    device: DeviceSettings
    delivery: Literal["nucleus", "mqtt"] = "nucleus"
    deployment: bytes = field(default=b"", repr=False)
    validate_within_s: float = 15.0
    held: UsageError | None = None

    def runs_as(self, other: ComponentSettings) -> bool:
        """Whether all but the deployment is the same, so that a running core can go on."""
        return (self.device, self.delivery, str(self.held)) == (other.device, other.delivery, str(other.held))


class ComponentFile(Section):
    """The component's configuration; ``device`` is looked at by itself."""

    deployment: dict[str, Any] = Field(default_factory=dict)
    delivery: Literal["nucleus", "mqtt"] = "nucleus"
    device: dict[str, Any] = Field(default_factory=dict)
    validate_within: Annotated[
        Duration, Field(description="a new deployment is tried out so long before the nucleus gets its answer")
    ] = 15.0
    accessControl: Any = None  # noqa: N815 (the nucleus' own)


def read_component_environment(environ: Mapping[str, str]) -> ComponentEnvironment:
    """Raises: UsageError: this process was not started by a nucleus."""
    missing = [f"{name} ({what})" for name, what in _VARIABLES.items() if not environ.get(name)]
    if missing:
        raise UsageError(
            "this is no component of Greengrass: what its nucleus sets in the environment is missing",
            got=f"no {', no '.join(missing)}",
            remedy="let the component's recipe start it; on a device without Greengrass: mli core start",
        )
    thing, token, socket_path = (environ[name] for name in _VARIABLES)
    return ComponentEnvironment(
        thing,
        NucleusSettings(socket_path, token),
        environ.get("AWS_REGION") or None,
        environ.get("GG_ROOT_CA_PATH") or None,
        environ.get("GGC_VERSION") or None,
    )


def read_component(
    value: Mapping[str, Any],
    environment: ComponentEnvironment,
    root: Path,
    endpoint: Callable[[], str | None] = lambda: None,
) -> ComponentSettings:
    """Settings of a configuration.

    Args:
        value: the whole of it.
        root: the component's work folder; relative paths are of it.
        endpoint: AWS IoT Core's, as the nucleus knows it; asked for where ``delivery: mqtt`` needs it.

    Raises:
        UsageError: everything that is wrong with it, but for the deployment.
    """
    if not _is_at_most(value, MAX_DEPTH):
        raise UsageError("nested too deeply to be settings", where=NAME, expected=f"at most {MAX_DEPTH} levels")
    placed = PlacedYaml(NAME, dict(value), {})
    try:
        file = ComponentFile.model_validate(value)
    except pydantic.ValidationError as error:
        raise refusal(placed, Expansion({}), _problems(error)) from error
    mqtt = file.device.get("mqtt") or {}
    own = {key: item for key, item in file.device.items() if key != "mqtt"}
    device = _device({"thing": environment.thing, **own}, environment, root)
    held = None
    if file.delivery == "mqtt":
        try:
            section = _mqtt(mqtt, environment, endpoint)
            device = replace(
                device, mqtt=_device({"thing": environment.thing, **own, "mqtt": section}, environment, root).mqtt
            )
        except UsageError as error:
            held = UsageError(
                "delivery: mqtt is not possible here, so predictions wait in the spool",
                got=str(error),
                remedy="let the component's user read the device's certificate and key, and name them in `device: "
                "{mqtt: {tls: {certificate, private_key}}}`; or choose delivery: nucleus",
            )
    deployment = json.dumps(file.deployment, sort_keys=True).encode() if file.deployment else b""
    return ComponentSettings(device, file.delivery, deployment, file.validate_within, held)


def _is_at_most(value: Any, depth: int) -> bool:
    """Whether a value of JSON has at most so many levels of objects and lists; it may have any number."""
    level = [value]
    for _ in range(depth):
        inner = [list(item.values()) if isinstance(item, dict) else item for item in level if item]
        level = [one for item in inner if isinstance(item, list) for one in item]
    return not any(isinstance(item, dict | list) for item in level)


def _device(section: dict[str, Any], environment: ComponentEnvironment, root: Path) -> DeviceSettings:
    placed = PlacedYaml(NAME, {"device": section}, {})
    try:
        file = DeviceFile.model_validate(section)
    except pydantic.ValidationError as error:
        problems = [(("device", *where), text) for where, text in problems_of(error, section, DeviceFile)]
        raise refusal(placed, Expansion({}), problems) from error
    problems = []
    if file.thing != environment.thing:
        problems.append((("thing",), f"the nucleus' thing is {environment.thing}; leave this key out"))
    if file.root is not None and Path(file.root) != root:
        problems.append((("root",), f"a component's root is its work folder, {root}; leave this key out"))
    device = build_device(file, root, root, problems)
    if problems:
        raise refusal(placed, Expansion({}), [(("device", *where), text) for where, text in problems])
    return device


def _mqtt(
    given: Mapping[str, Any], environment: ComponentEnvironment, endpoint: Callable[[], str | None]
) -> dict[str, Any]:
    """The section ``mqtt`` with what is known here already."""
    section = dict(given)
    tls = dict(section.get("tls") or {})
    if environment.ca_path is not None:
        folder = Path(environment.ca_path).parent
        for key, name in (
            ("ca", Path(environment.ca_path).name),
            ("certificate", CERTIFICATE),
            ("private_key", PRIVATE_KEY),
        ):
            tls.setdefault(key, str(folder / name))
    if "host" not in section:
        host = endpoint()
        if host is None:
            raise UsageError(
                "the nucleus does not tell AWS IoT Core's endpoint: name it in `device: {mqtt: {host: …}}`"
            )
        section["host"] = host
    section.setdefault("client_id", environment.thing + CLIENT_SUFFIX)
    return {**section, "tls": tls or None}


def _problems(error: pydantic.ValidationError) -> Problems:
    problems: Problems = []
    for item in error.errors(include_url=False):
        where = tuple(item["loc"])
        if item["type"] == "extra_forbidden":
            problems.append((where, f"unknown key{nearest(str(where[-1]), KEYS)}"))
        elif item["type"] == "value_error":
            problems.append((where, str(item["ctx"]["error"])))
        else:
            message = str(item["msg"])
            problems.append((where, message[0].lower() + message[1:]))
    return problems
