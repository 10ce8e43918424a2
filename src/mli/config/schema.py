"""What device and deployment files may say, as pydantic models; their JSON Schema is the documentation's.

Long and short form end here: ``mli.config.short_form`` turns the short form into the long one first.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mli.config.fields import (
    Argument,
    Authority,
    Channels,
    Confidence,
    Duration,
    Endpoint,
    Host,
    KeepAlive,
    Labels,
    ModelUri,
    Name,
    PathText,
    Pixels,
    Port,
    Positive,
    Protocol,
    PublicKeys,
    PublicKeysOrFiles,
    Region,
    RoleAlias,
    Sha256,
    Size,
    Thing,
    Topic,
)
from mli.config.settings import CredentialsKind, IsolationMode
from mli.types import Color, Interpolation, Layout, Resize

SOURCE_KEYS = ("interval", "once", "frames")
PUBLISH_KEYS = ("topic", "payload", "qos", "image_name")
"""Keys of ``source`` and ``publish`` that may also stand outside of them."""
MAX_REVISION = 10**15 - 1
"""Whole numbers of this size survive every JSON reader and every database."""
MAX_RULES = 256
MAX_PARTS = 64
"""Models, and pipelines, of a deployment: each pipeline is a process of its own."""


class Section(BaseModel):
    """A part of a file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), hide_input_in_errors=True)


class ModelFile(Section):
    """Where a model archive is."""

    uri: Annotated[ModelUri, Field(description="a .zip or .tar.gz archive: path, file://, s3://BUCKET/KEY, https://")]
    sha256: Annotated[Sha256 | None, Field(description="digest that the archive's bytes must have")] = None
    region: Annotated[
        Region | None, Field(description="of the bucket; default: the store's, or the bucket's own")
    ] = None

    @model_validator(mode="after")
    def _region_of_a_bucket(self) -> ModelFile:
        if self.region is not None and not self.uri.startswith("s3://"):
            raise ValueError("`region` belongs to an s3:// address")
        return self


class SourceFile(Section):
    """Where frames come from."""

    kind: Literal["images", "demo"] = "images"
    uri: Annotated[PathText, Field(description="folder, glob or single image file")] = ""
    interval: Annotated[Duration, Field(description="time from frame to frame; 0 is as fast as possible")] = 5.0
    once: Annotated[bool, Field(description="read each image once and end")] = False
    frames: Annotated[int | None, Field(ge=1, description="kind demo: end after so many frames")] = None
    seed: Annotated[int, Field(ge=0, description="kind demo: what the simulated camera draws")] = 0
    max_pixels: Annotated[int, Field(ge=1, description="larger images are refused by their header")] = 50_000_000

    @model_validator(mode="after")
    def _fits_kind(self) -> SourceFile:
        if self.kind == "images" and not self.uri:
            raise ValueError("kind images needs `uri`: a folder, glob or image file")
        if self.kind == "images" and self.frames is not None:
            raise ValueError("`frames` belongs to kind demo; `once` ends kind images after each image")
        if self.kind == "demo" and self.uri:
            raise ValueError("kind demo takes no `uri`; it draws its images itself")
        if self.kind == "demo" and self.once and self.frames is None:
            raise ValueError("kind demo has no end of its own; write `frames: N` instead of `once`")
        return self


class PreprocessFile(Section):
    """What this deployment changes of the model's input specification."""

    size: Pixels | None = None
    resize: Resize | None = None
    interpolation: Interpolation | None = None
    color: Color | None = None
    layout: Layout | None = None
    mean: Annotated[Channels | None, Field(description="x = (pixel - mean) * scale; one, or one a channel")] = None
    scale: Channels | None = None
    pad: Annotated[int | None, Field(ge=0, le=255)] = None


class WhenFile(Section):
    """When a rule fires."""

    label: Annotated[Labels, Field(description="one label or a list of them")]
    confidence: Confidence = 0.0
    matches: Annotated[int, Field(ge=1, le=10_000, description="N of the last M frames must match")] = 1
    of: Annotated[int | None, Field(ge=1, le=10_000, description="M")] = None
    cooldown: Duration = 0.0

    @model_validator(mode="after")
    def _n_of_m(self) -> WhenFile:
        if self.of is not None and self.of < self.matches:
            raise ValueError(f"matches: {self.matches} of: {self.of} can never be reached")
        return self


class ThenFile(Section):
    """What a rule does: publish, run one of the device's commands, or both."""

    publish: Topic | None = None
    qos: Literal[0, 1] = 1
    command: Name | None = None
    max_age: Annotated[Duration, Field(description="a command that cannot start so soon is dropped")] = 1.0

    @model_validator(mode="after")
    def _something(self) -> ThenFile:
        if self.publish is None and self.command is None:
            raise ValueError("expected `publish: TOPIC` or `command: NAME`")
        return self


class RuleFile(Section):
    """One rule."""

    name: Name
    when: WhenFile
    then: ThenFile


class PublishFile(Section):
    """How predictions become messages."""

    topic: Topic = "mli/predictions/{thing}"
    payload: Literal["compact", "full"] = "compact"
    qos: Literal[0, 1] = 1
    image_name: Annotated[bool, Field(description="add image_name to the compact payload")] = False


class LimitsFile(Section):
    """Bounds of a worker."""

    memory: Size = 500 * 1024**2
    frame_timeout: Positive = 15.0
    start_timeout: Positive = 60.0


class PipelineFile(Section):
    """One pipeline."""

    source: SourceFile
    model: Name
    preprocess: PreprocessFile = PreprocessFile()
    backend: Literal["auto", "onnxruntime", "litert"] = "auto"
    threads: Annotated[int, Field(ge=0, le=256, description="of one inference; 0 chooses")] = 0
    top: Annotated[int, Field(ge=1, le=1000)] = 1
    min_confidence: Confidence = 0.0
    rules: Annotated[tuple[RuleFile, ...], Field(max_length=MAX_RULES)] = ()
    publish: PublishFile = PublishFile()
    limits: LimitsFile = LimitsFile()
    isolation: Annotated[
        IsolationMode, Field(description="auto is a container where one works; container never runs without one")
    ] = "auto"


class WantedFile(Section):
    """What runs."""

    revision: Annotated[int | None, Field(ge=0, le=MAX_REVISION)] = None
    models: Annotated[dict[Name, ModelFile], Field(max_length=MAX_PARTS)]
    pipelines: Annotated[dict[Name, PipelineFile], Field(min_length=1, max_length=MAX_PARTS)]


class DeploymentFile(WantedFile):
    """What runs, alone; may come over the network."""

    thing: Annotated[Thing | None, Field(description="the device's own, or left out")] = None
    trust: Annotated[
        PublicKeys | None,
        Field(description="PEM text of the keys that are trusted from now on, instead of all others"),
    ] = None


class TlsFile(Section):
    """Paths of PEM files."""

    ca: PathText | None = None
    certificate: PathText | None = None
    private_key: PathText | None = None
    alpn: str | None = None


class MqttFile(Section):
    """The broker of the device."""

    host: Annotated[str, Field(min_length=1)]
    port: Port | None = None
    client_id: Annotated[str | None, Field(description="default: the thing")] = None
    tls: TlsFile | None = None
    username: str | None = None
    password: Annotated[str | None, Field(description="secret:NAME reads ROOT/secrets/NAME")] = None
    keepalive: KeepAlive = 60.0
    protocol: Protocol = "auto"


class SpoolFile(Section):
    """Bounds of the queue on disk."""

    max_size: Size = 256 * 1024**2
    max_age: Duration | None = None
    drain_timeout: Duration = 30.0


class CommandFile(Section):
    """A command that rules may run."""

    argv: Annotated[tuple[Argument, ...], Field(min_length=1, description="argument list; there is no shell")]
    timeout: Positive = 5.0


class StoreFile(Section):
    """How model archives are fetched."""

    endpoint: Annotated[Endpoint | None, Field(description="URL of an S3-compatible store; default: AWS")] = None
    region: Annotated[Region | None, Field(description="of the buckets; default: each bucket's own")] = None
    credentials: CredentialsKind = "auto"
    profile: Annotated[str | None, Field(min_length=1)] = None
    access_key_id: Annotated[str | None, Field(min_length=1)] = None
    secret_access_key: Annotated[
        str | None, Field(min_length=1, description="secret:NAME reads ROOT/secrets/NAME")
    ] = None
    role_alias: Annotated[RoleAlias | None, Field(description="of the AWS IoT credentials provider")] = None
    credentials_endpoint: Annotated[
        Authority | None, Field(description="host of the AWS IoT credentials provider")
    ] = None
    ca: Annotated[PathText | None, Field(description="PEM file to trust instead of the system's certificates")] = None
    proxy: Annotated[str | None, Field(min_length=1, description="URL of an HTTP proxy, or secret:NAME")] = None
    connect_timeout: Positive = 10.0
    stall_timeout: Positive = 30.0
    max_size: Size = 4096 * 1024**2


class AllowFile(Section):
    """What a deployment that came over the network may use."""

    paths: Annotated[tuple[PathText, ...] | None, Field(description="folders; default: ROOT/images")] = None
    hosts: Annotated[tuple[Host, ...], Field(description="of https:// archives; *.example.org for all below")] = ()


class HealthFile(Section):
    """When a new deployment counts as good."""

    healthy_after: Duration = 10.0
    watch: Positive = 600.0
    deadline: Positive = 3600.0


class LogFile(Section):
    """Logs of the core."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    max_size: Size = 5 * 1024**2
    kept: Annotated[int, Field(ge=1, le=1000)] = 3


class DeviceFile(Section):
    """What never comes over the network."""

    thing: Thing
    root: PathText | None = None
    mqtt: MqttFile | None = None
    spool: SpoolFile = SpoolFile()
    commands: dict[Name, CommandFile] = {}
    store: StoreFile = StoreFile()
    allow: AllowFile = AllowFile()
    trust: Annotated[
        PublicKeysOrFiles, Field(description="Ed25519 public keys whose deployments are taken: PEM text or files")
    ] = ()
    health: HealthFile = HealthFile()
    log: LogFile = LogFile()
    min_isolation: Literal["none", "container"] = "none"


class RunFile(DeviceFile, WantedFile):
    """Device and deployment in one file, for ``mli run FILE``."""
