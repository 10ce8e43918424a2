"""The parts of a Greengrass V1 group, which templates, exports and the device's own file write the same way.

Keys are taken in any case; what nobody here knows is noted, and what is not of its kind too. Values are texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mli.cloud.migration.setup import (
    ClientDevice,
    Code,
    Connector,
    Core,
    Function,
    Logger,
    Resource,
    ResourceKind,
    RunAs,
    Setup,
    Subscription,
    Unread,
)

MAX_ITEMS = 512
"""Of one list; Greengrass allowed 200 of most."""
_DATA: dict[str, tuple[ResourceKind, str]] = {
    "s3machinelearningmodelresourcedata": ("s3-model", "s3uri"),
    "sagemakermachinelearningmodelresourcedata": ("sagemaker-model", "sagemakerjobarn"),
    "localvolumeresourcedata": ("volume", "sourcepath"),
    "localdeviceresourcedata": ("device", "sourcepath"),
    "secretsmanagersecretresourcedata": ("secret", "arn"),
}
_CONTAINER, _OWNERS = "resourcedatacontainer", ("ownersetting", "groupownersetting")


class Part:
    """An object of the file, read key by key; what was not asked for is noted by ``close``."""

    def __init__(self, value: Any, where: str, setup: Setup) -> None:
        self.where = where
        self._setup = setup
        self._keys: dict[str, tuple[str, Any]] = {}
        if isinstance(value, dict):
            self._keys = {key.lower(): (key, item) for key, item in value.items()}
        elif value is not None:
            self.note(where, f"no object of keys: {shown(value)}")

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def note(self, where: str, what: str) -> None:
        self._setup.unread.append(Unread(where, what))

    def raw(self, key: str) -> Any:
        """What stands at a key, in lower case here, whatever it is."""
        return self._keys.pop(key, (key, None))[1]

    def text(self, key: str) -> str | None:
        value = self.raw(key)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool):
            return str(value).lower()
        self.note(f"{self.where}.{key}", f"no text: {shown(value)}")
        return None

    def whole(self, key: str) -> int | None:
        text = self.text(key)
        if text is None or text == "":
            return None
        if text.isascii() and text.isdecimal() and len(text) <= 12:
            return int(text)
        self.note(f"{self.where}.{key}", f"no whole number: {shown(text)}")
        return None

    def truth(self, key: str) -> bool | None:
        text = self.text(key)
        if text is None:
            return None
        if text.lower() in ("true", "false", "yes", "no", "on", "off"):
            return text.lower() in ("true", "yes", "on")
        self.note(f"{self.where}.{key}", f"neither true nor false: {shown(text)}")
        return None

    def part(self, key: str) -> Part:
        return Part(self.raw(key), f"{self.where}.{key}", self._setup)

    def parts(self, key: str) -> Iterator[Part]:
        """The objects of a list."""
        value = self.raw(key)
        if value is None:
            return
        if not isinstance(value, list):
            self.note(f"{self.where}.{key}", f"no list: {shown(value)}")
            return
        for index, item in enumerate(value[:MAX_ITEMS]):
            yield Part(item, f"{self.where}.{key}[{index}]", self._setup)
        if len(value) > MAX_ITEMS:
            self.note(f"{self.where}.{key}", f"{len(value) - MAX_ITEMS:,} more items")

    def texts(self, key: str) -> tuple[tuple[str, str], ...]:
        """Names and texts of an object; what is no text is shown as one."""
        value = self.raw(key)
        if value is None:
            return ()
        if not isinstance(value, dict):
            self.note(f"{self.where}.{key}", f"no object of keys: {shown(value)}")
            return ()
        return tuple((name, item if isinstance(item, str) else shown(item)) for name, item in value.items())

    def drop(self, *keys: str) -> None:
        """Keys that say nothing that anybody needs."""
        for key in keys:
            self._keys.pop(key, None)

    def close(self) -> None:
        for name, value in self._keys.values():
            self.note(f"{self.where}.{name}", shown(value))


def shown(value: Any) -> str:
    """A value for people, short."""
    if isinstance(value, dict):
        text = "{" + ", ".join(map(str, list(value)[:8])) + "}"
    elif isinstance(value, list):
        text = f"a list of {len(value):,}"
    else:
        text = str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"


def read_functions(definition: Part, setup: Setup) -> None:
    """``{DefaultConfig, Functions}``."""
    default = definition.part("defaultconfig")
    setup.default_isolation, setup.default_run_as = (
        _execution(default)
        if "execution" in default
        else (
            setup.default_isolation,
            setup.default_run_as,
        )
    )
    default.close()
    for part in definition.parts("functions"):
        setup.functions.append(read_function(part))


def read_function(part: Part) -> Function:
    """One function; its settings may stand in ``FunctionConfiguration`` or beside its ARN."""
    arn, id_ = part.text("functionarn") or "", part.text("id") or ""
    settings = part.part("functionconfiguration") if "functionconfiguration" in part else part
    environment = settings.part("environment")
    isolation, run_as = _execution(environment)
    access = []
    for policy in environment.parts("resourceaccesspolicies"):
        access.append((policy.text("resourceid") or "", policy.text("permission") or ""))
        policy.close()
    function = Function(
        id=id_ or arn,
        arn=arn,
        where=part.where,
        pinned=settings.truth("pinned"),
        memory_kb=settings.whole("memorysize"),
        timeout_s=settings.whole("timeout"),
        encoding=settings.text("encodingtype"),
        executable=settings.text("executable") or settings.text("handler"),
        exec_args=settings.text("execargs"),
        runtime_override=settings.text("functionruntimeoverride"),
        sysfs=environment.truth("accesssysfs"),
        isolation=isolation,
        run_as=run_as,
        access=tuple(access),
        variables=environment.texts("variables"),
        code=_deployed_code(part),
    )
    environment.close()
    if settings is not part:
        settings.close()
    part.close()
    return function


def _execution(part: Part) -> tuple[str | None, RunAs | None]:
    execution = part.part("execution")
    isolation = execution.text("isolationmode")
    run_as = execution.part("runas")
    uid, gid = run_as.text("uid"), run_as.text("gid")
    run_as.close()
    execution.close()
    return isolation, None if uid is None and gid is None else RunAs(uid, gid)


def _deployed_code(part: Part) -> Code | None:
    """How the core itself notes the code that it downloaded."""
    if "deploymentconfiguration" not in part:
        return None
    deployed = part.part("deploymentconfiguration")
    code = Code(None, deployed.text("handler"), deployed.text("runtime"))
    deployed.drop("codesize", "codesha256", "functionarn", "lastmodified", "version", "memorysize", "timeout")
    deployed.close()
    return code


def read_resources(definition: Part, setup: Setup, key: str = "resources") -> None:
    """``{Resources}``; the core's own file has ``Type`` and ``Data`` in place of the container."""
    for part in definition.parts(key):
        id_, name = part.text("id") or "", part.text("name") or ""
        container = part.part(_CONTAINER) if _CONTAINER in part else None
        kind_of_data = "" if container else (part.text("type") or "")
        data = part.part("data") if container is None else None
        found = _data_of(container) if container else _flat_data(kind_of_data, data)
        if found is None:
            part.note(part.where, f"a resource of no known kind: {name or id_}")
            continue
        kind, source, destination, owner = found
        setup.resources.append(Resource(id_ or name, name or id_, kind, source, part.where, destination, owner))
        part.close()


def _data_of(container: Part) -> tuple[ResourceKind, str, str | None, str | None] | None:
    for key, (kind, source_key) in _DATA.items():
        if key in container:
            data = container.part(key)
            found = _read_data(data, kind, source_key)
            container.close()
            return found
    return None


def _flat_data(kind_text: str, data: Part | None) -> tuple[ResourceKind, str, str | None, str | None] | None:
    """Which kind it is follows from what is there."""
    if data is None:
        return None
    word = kind_text.lower()
    for kind, source_key in _DATA.values():
        if source_key not in data:
            continue
        if kind == "volume" and ("device" in word or "destinationpath" not in data):
            continue
        return _read_data(data, kind, source_key)
    return None


def _read_data(data: Part, kind: ResourceKind, source_key: str) -> tuple[ResourceKind, str, str | None, str | None]:
    source, destination = data.text(source_key) or "", data.text("destinationpath")
    owners = []
    for key in _OWNERS:
        if key in data:
            setting = data.part(key)
            words = [
                f"{name} {text}"
                for name in ("groupowner", "grouppermission", "autoaddgroupowner")
                if (text := setting.text(name)) is not None
            ]
            owners.append(", ".join(words))
            setting.close()
    data.drop("additionalstaginglabelstodownload")
    data.close()
    return kind, source, destination, "; ".join(owners) or None


def read_subscriptions(definition: Part, setup: Setup, key: str = "subscriptions") -> None:
    """``{Subscriptions}``."""
    for part in definition.parts(key):
        words = {name: part.text(name) or "" for name in ("id", "source", "subject", "target")}
        setup.subscriptions.append(Subscription(**words, where=part.where))
        part.close()


def read_loggers(definition: Part, setup: Setup, key: str = "loggers") -> None:
    """``{Loggers}``."""
    for part in definition.parts(key):
        component, kind, level = (part.text(name) or "" for name in ("component", "type", "level"))
        setup.loggers.append(Logger(component, kind, level, part.where, part.whole("space")))
        part.drop("id")
        part.close()


def read_connectors(definition: Part, setup: Setup) -> None:
    """``{Connectors}``."""
    for part in definition.parts("connectors"):
        connector = Connector(
            part.text("id") or "", part.text("connectorarn") or "", part.where, part.texts("parameters")
        )
        setup.connectors.append(connector)
        part.close()


def read_cores(definition: Part, setup: Setup) -> None:
    """``{Cores}``."""
    for part in definition.parts("cores"):
        core = Core(part.text("thingarn") or "", part.text("certificatearn"), part.truth("syncshadow"))
        part.drop("id")
        part.close()
        if core not in setup.cores:
            setup.cores.append(core)


def read_devices(definition: Part, setup: Setup) -> None:
    """``{Devices}``."""
    for part in definition.parts("devices"):
        setup.devices.append(ClientDevice(part.text("id") or "", part.text("thingarn") or "", part.where))
        part.drop("certificatearn", "syncshadow")
        part.close()


READERS = {
    "core": read_cores,
    "function": read_functions,
    "resource": read_resources,
    "subscription": read_subscriptions,
    "logger": read_loggers,
    "connector": read_connectors,
    "device": read_devices,
}
"""For each kind of definition what reads it."""
