"""A set-up of Greengrass V1, in whatever form it was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Form = Literal["template", "export", "folder"]
Isolation = Literal["GreengrassContainer", "NoContainer"]
ResourceKind = Literal["s3-model", "sagemaker-model", "volume", "device", "secret"]


@dataclass(frozen=True, slots=True)
class Core:
    """The thing that the core connects as.

    Attributes:
        thing_arn: also with unknown parts: ``arn:aws:iot:${AWS::Region}:…``.
    """

    thing_arn: str
    certificate_arn: str | None = None
    sync_shadow: bool | None = None

    @property
    def thing(self) -> str | None:
        """The thing's name, which may be open; None where the ARN is none."""
        _, mark, name = self.thing_arn.partition(":thing/")
        return name if mark and name else None

    @property
    def certificate_id(self) -> str | None:
        """What stands behind ``cert/``."""
        _, mark, name = (self.certificate_arn or "").partition(":cert/")
        return name if mark and name else None


@dataclass(frozen=True, slots=True)
class Code:
    """Where a function's code is, as the template says it."""

    uri: str | None = None
    handler: str | None = None
    runtime: str | None = None


@dataclass(frozen=True, slots=True)
class RunAs:
    """User and group of a function's process."""

    uid: str | None = None
    gid: str | None = None

    def __str__(self) -> str:
        return " ".join(f"{name} {item}" for name, item in (("uid", self.uid), ("gid", self.gid)) if item is not None)


@dataclass(frozen=True, slots=True)
class Function:
    """A Lambda function on the core.

    Attributes:
        where: in the file.
        pinned: it runs as long as the core does; else on demand.
        memory_kb: 1,024 bytes each.
        timeout_s: of one call.
        access: resource id and permission (``ro``, ``rw``, or empty) of each resource that it may use.
        variables: its environment.
    """

    id: str
    arn: str
    where: str
    pinned: bool | None = None
    memory_kb: int | None = None
    timeout_s: int | None = None
    encoding: str | None = None
    executable: str | None = None
    exec_args: str | None = None
    runtime_override: str | None = None
    sysfs: bool | None = None
    isolation: str | None = None
    run_as: RunAs | None = None
    access: tuple[tuple[str, str], ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    code: Code | None = None

    @property
    def name(self) -> str:
        """Short, for people: the function's name in its ARN, else its id."""
        parts = self.arn.split(":")
        return parts[6] if len(parts) > 6 and parts[2] == "lambda" else self.id

    @property
    def of_aws(self) -> bool:
        """Whether it is a part of Greengrass itself, such as ``GGIPDetector``."""
        parts = self.arn.split(":")
        return len(parts) > 6 and parts[2] == "lambda" and not parts[4] and parts[6].startswith("GG")


@dataclass(frozen=True, slots=True)
class Resource:
    """A local or machine learning resource.

    Attributes:
        source: S3 address, training job, path on the device, or ARN of a secret.
        destination: path that the function saw.
        owner: group setting, for people.
    """

    id: str
    name: str
    kind: ResourceKind
    source: str
    where: str
    destination: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """From whom to whom messages on a subject went."""

    id: str
    source: str
    subject: str
    target: str
    where: str


@dataclass(frozen=True, slots=True)
class Logger:
    """Where a part's log went, and what was in it."""

    component: str
    kind: str
    level: str
    where: str
    space_kb: int | None = None


@dataclass(frozen=True, slots=True)
class Connector:
    """A ready-made part of Greengrass."""

    id: str
    arn: str
    where: str
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ClientDevice:
    """A device that talked to the core."""

    id: str
    thing_arn: str
    where: str


@dataclass(frozen=True, slots=True)
class Other:
    """A resource of the template that is no part of the group.

    Attributes:
        note: what matters of it when the stack goes.
    """

    name: str
    type: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """What the file says and nobody here knows, or what is not as Greengrass has it."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class OnDevice:
    """What lay in the device's folder.

    Attributes:
        config_problems: what mli's reader finds wrong with ``config/config.json`` and ``certs/``.
        store: what ``config.json`` says of AWS IoT's credentials provider; what AWS wrote for V1 says nothing.
        lambdas: folder below the root of each function's code.
        images: folder below the root → number of images in it.
        models: folder below the root of each unpacked model → names of its files.
        outside: files that ``config.json`` names outside of the folder; they are not backed up.
    """

    root: Path
    endpoint: str | None = None
    port: int | None = None
    keepalive_s: int | None = None
    store: tuple[tuple[str, str], ...] = ()
    config_problems: str | None = None
    lambdas: tuple[str, ...] = ()
    images: tuple[tuple[str, int], ...] = ()
    models: tuple[tuple[str, tuple[str, ...]], ...] = ()
    outside: tuple[str, ...] = ()
    not_backed_up: tuple[str, ...] = ()


@dataclass(slots=True)
class Setup:
    """Everything that was found.

    Attributes:
        source: the path that was read.
        files: what was read, to back up: path, and its name in the backup.
        core_name: the parameter ``CoreName`` of a template.
        parameters: of a template, with a value.
        open_parameters: of a template, without one.
        processed: text of a template in JSON without transforms, as CloudFormation gives that of a stack.
    """

    form: Form
    source: Path
    files: list[tuple[Path, str]] = field(default_factory=list)
    core_name: str | None = None
    group: str | None = None
    region: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    open_parameters: tuple[str, ...] = ()
    processed: str | None = None
    cores: list[Core] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    default_isolation: str | None = None
    default_run_as: RunAs | None = None
    resources: list[Resource] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    loggers: list[Logger] = field(default_factory=list)
    connectors: list[Connector] = field(default_factory=list)
    devices: list[ClientDevice] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    on_device: OnDevice | None = None
