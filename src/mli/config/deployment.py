"""A deployment, from a file or from the network, to settings, checked against what the device allows."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pydantic

from mli.config.build_deployment import Reach, build_deployment
from mli.config.identity import canonical_form, identity_of
from mli.config.paths import Problems
from mli.config.pem import trust_anchor
from mli.config.problems import problems_of
from mli.config.refusals import refusal
from mli.config.schema import DeploymentFile
from mli.config.settings import DeploymentSettings, DeviceSettings
from mli.config.short_form import Expansion, expand_deployment
from mli.config.showing import shown_deployment
from mli.config.yaml_places import PlacedYaml, parse_settings

Origin = Literal["file", "remote", "component"]
"""A file of this machine, a message of the broker, the configuration of a Greengrass component."""


@dataclass(frozen=True, slots=True)
class DeploymentForm:
    """What a deployment says, before any device has looked at it.

    Attributes:
        thing: the only thing that it is for, where it says one.
        identity: as a device computes it that gets these bytes over the network.
        expanded: the long form with every default.
    """

    revision: int | None
    thing: str | None
    identity: str
    expanded: dict[str, Any] = field(repr=False)

    def shown(self) -> dict[str, Any]:
        """The long form for people to read: every default, and no secret of an address."""
        return shown_deployment(copy.deepcopy(self.expanded))


def parse_deployment(
    text: bytes, device: DeviceSettings, *, origin: Origin, folder: Path, name: str, check_files: bool = True
) -> DeploymentSettings:
    """Settings of what shall run on this device.

    Args:
        text: YAML or JSON, long or short form.
        origin: of what came over the network relative paths are of the device's root, and the device's ``allow``
            bounds which files and hosts it may name; a message (``remote``) has a revision. A local file may name
            any.
        folder: relative paths of a local file are of it.
        name: of the file or topic, for errors.
        check_files: False where archives and images need not be there (any more), as at boot.

    Raises:
        UsageError: everything that is wrong with it, or that this device does not allow.
    """
    remote = origin != "file"
    folder = Path(device.root) if remote else folder.absolute()
    placed, expansion, file, problems = _checked(text, name)
    if file.thing is not None and file.thing != device.thing:
        problems.append((("thing",), f"this deployment is for {file.thing}, and this device is {device.thing}"))
    if origin == "remote" and file.revision is None:
        problems.append((("revision",), "this key is missing; a deployment that comes over the network needs it"))
    deployment = build_deployment(file, Reach(device, folder, remote, check_files), problems)
    if problems:
        raise refusal(placed, expansion, problems)
    return replace(
        deployment,
        identity=identity_of(canonical_form(file, None if remote else folder)),
        trust=None if file.trust is None else tuple({key: trust_anchor(key) for key in file.trust}.values()),
    )


def read_deployment(text: bytes, name: str) -> DeploymentForm:
    """What a deployment says, for whoever sends it: its form is checked, and nothing that needs its device.

    Raises:
        UsageError: everything that is wrong with its form.
    """
    placed, expansion, file, problems = _checked(text, name)
    if problems:
        raise refusal(placed, expansion, problems)
    expanded = file.model_dump(mode="json", exclude_none=True)
    return DeploymentForm(file.revision, file.thing, identity_of(canonical_form(file)), expanded)


def _checked(text: bytes, name: str) -> tuple[PlacedYaml, Expansion, DeploymentFile, Problems]:
    placed = parse_settings(text, name)
    expansion = expand_deployment(placed.value)
    problems: Problems = list(expansion.problems)
    try:
        return placed, expansion, DeploymentFile.model_validate(expansion.value), problems
    except pydantic.ValidationError as error:
        problems += problems_of(error, placed.value, DeploymentFile)
        raise refusal(placed, expansion, problems) from error
