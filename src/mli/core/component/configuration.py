"""The component's configuration: from the nucleus, or as it was when it was last good."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mli.config.component import ComponentEnvironment, ComponentSettings, read_component
from mli.config.settings import NucleusSettings
from mli.core.root import Root
from mli.delivery.sinks.greengrass_ipc import NucleusConnection
from mli.errors import MliError, RetryError, UsageError
from mli.models.staging import write_durably

log = logging.getLogger(__name__)

NUCLEI = ("aws.greengrass.Nucleus", "aws.greengrass.NucleusLite")


def first_settings(environment: ComponentEnvironment, root: Root) -> tuple[ComponentSettings, MliError | None]:
    """What a core begins with, and why it is not the present configuration.

    A configuration that cannot be used, or a nucleus that does not answer, must not end what ran before: then the
    last one counts that was good, and where there was none, one that says nothing.

    Raises:
        StopError: awsiotsdk is not installed.
    """
    try:
        connection = NucleusConnection(environment.nucleus, lambda reason: log.debug("%s", reason))
        try:
            value = connection.configuration()
            settings = settings_of(value, environment, root, connection)
            keep(value, environment, root)
            return settings, None
        finally:
            connection.close()
    except (RetryError, UsageError) as error:
        problem = error
        log.error("the present configuration is not used: %s", error)
    try:
        return read_component(_kept(root).configuration, environment, root.path), problem
    except MliError as error:  # of an older version, say
        log.error("%s", error)
        return read_component({}, environment, root.path), problem


def kept_settings(root: Root) -> ComponentSettings | None:
    """Those that the last core of this root began with, for who looks at it from outside; None for another kind of
    core.

    Raises:
        UsageError: they do not hold any more: a file is gone, say.
    """
    if not root.configuration.exists():
        return None
    kept = _kept(root)
    nobody = NucleusSettings("", "")
    environment = ComponentEnvironment(kept.thing, nobody, kept.region, kept.ca_path)
    return read_component(kept.configuration, environment, root.path)


def settings_of(
    value: Mapping[str, Any], environment: ComponentEnvironment, root: Root, connection: NucleusConnection
) -> ComponentSettings:
    """See ``read_component``."""
    return read_component(value, environment, root.path, lambda: _endpoint(connection))


def keep(value: Mapping[str, Any], environment: ComponentEnvironment, root: Root) -> None:
    """Write down a configuration that is good, for a start at which the nucleus' is not."""
    kept = _Kept(environment.thing, environment.region, environment.ca_path, dict(value))
    data = (json.dumps(asdict(kept), indent=2) + "\n").encode()
    path = root.configuration
    try:
        if not path.exists() or path.read_bytes() != data:
            write_durably(path, data)
            path.chmod(0o600)
    except OSError as error:
        log.warning("the configuration cannot be kept for a start without the nucleus: %s", error)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is written down."""

    thing: str
    region: str | None
    ca_path: str | None
    configuration: dict[str, Any]


def _kept(root: Root) -> _Kept:
    try:
        return _Kept(**json.loads(root.configuration.read_bytes()))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, RecursionError) as error:
        log.error("%s is damaged and is not used: %s", root.configuration, error)
    return _Kept("", None, None, {})


def _endpoint(connection: NucleusConnection) -> str | None:
    """AWS IoT Core's, as the nucleus is configured."""
    for name in NUCLEI:
        try:
            found = connection.configuration(name).get("iotDataEndpoint")
        except RetryError as error:
            log.debug("%s", error)
            continue
        if isinstance(found, str) and found:
            return found
    return None
