"""The frozen settings that files, arguments and defaults end in.

They cross the process border as JSON (``to_json``/``from_json`` of ``mli.frozen_json``): a worker has neither
pydantic nor YAML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mli.types import Color, Interpolation, Layout, Resize

MEBIBYTE = 1024 * 1024

IsolationMode = Literal["auto", "container", "none"]
"""``auto``: a container where it works, else none, which the status says; ``container`` never degrades."""


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Where frames come from.

    Attributes:
        kind: ``images`` (folder, glob or single file) or ``demo`` (the simulated camera).
        uri: path or glob of the images; empty for ``demo``.
        interval_s: seconds from one frame to the next; 0 is as fast as possible.
        once: read each image once and end; otherwise loop.
        frames: end after so many frames; None goes on.
        seed: of the simulated camera.
        max_pixels: an image whose header promises more is refused before it is decoded.
        below: folders in which every image lies, once links are followed; None is anywhere.
    """

    kind: Literal["images", "demo"]
    uri: str = ""
    interval_s: float = 5.0
    once: bool = False
    frames: int | None = None
    seed: int = 0
    max_pixels: int = 50_000_000
    below: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PreprocessSettings:
    """What a deployment changes of the model's input specification; None keeps it."""

    width: int | None = None
    height: int | None = None
    resize: Resize | None = None
    interpolation: Interpolation | None = None
    color: Color | None = None
    layout: Layout | None = None
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    pad: int | None = None


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """When to act on predictions, and how.

    Attributes:
        labels: the rule matches a frame in which one of these is predicted …
        min_confidence: … with at least this confidence.
        matches, window: it fires when at least ``matches`` of the last ``window`` frames matched …
        cooldown_s: … and its last firing was at least so long ago.
        topic, payload_qos: publish there; None publishes nothing.
        command: name of a command of the device's own file; None runs nothing.
        max_age_s: a command that could not start so soon after the frame is dropped: late is dangerous.
    """

    name: str
    labels: tuple[str, ...]
    min_confidence: float = 0.0
    matches: int = 1
    window: int = 1
    cooldown_s: float = 0.0
    topic: str | None = None
    qos: int = 1
    command: str | None = None
    max_age_s: float = 1.0


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """How predictions become messages.

    Attributes:
        topic: without placeholders: ``{thing}`` and ``{pipeline}`` are filled in.
        payload: ``compact`` is the accelerator's array, ``full`` one object with everything.
        image_name: adds the third key to the compact payload.
    """

    topic: str
    payload: Literal["compact", "full"] = "compact"
    qos: int = 1
    image_name: bool = False


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Bounds of a worker.

    Attributes:
        memory_bytes: resident memory; over it the worker is ended and replaced.
        frame_timeout_s: longest time one frame may take.
        start_timeout_s: longest time from the worker's start to its loaded model.
    """

    memory_bytes: int = 500 * MEBIBYTE
    frame_timeout_s: float = 15.0
    start_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """One pipeline, complete.

    Attributes:
        model: key of the deployment's ``models``.
        backend: ``auto`` takes the one for the model's format.
        threads: of the backend for one inference; 0 lets it choose.
        top: predictions a frame, most confident first.
    """

    name: str
    thing: str
    source: SourceSettings
    model: str
    publish: PublishSettings
    preprocess: PreprocessSettings = PreprocessSettings()
    backend: Literal["auto", "onnxruntime", "litert"] = "auto"
    threads: int = 0
    top: int = 1
    min_confidence: float = 0.0
    rules: tuple[RuleSettings, ...] = ()
    limits: LimitSettings = LimitSettings()
    isolation: IsolationMode = "auto"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Paths of PEM files. Without ``ca_path`` the system's trust store is used."""

    ca_path: str | None = None
    certificate_path: str | None = None
    private_key_path: str | None = None
    alpn: str | None = None


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """The one broker of a device.

    Attributes:
        protocol: ``auto`` is MQTT 5, then 3.1.1 where the broker says "unsupported protocol version".
        max_inflight: publishes that wait for their PUBACK at a time.
    """

    host: str
    port: int = 1883
    client_id: str = ""
    tls: TlsSettings | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    keepalive_s: int = 60
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    max_inflight: int = 64
    connect_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class NucleusSettings:
    """A component's line to its Greengrass nucleus.

    Attributes:
        socket_path: of its IPC socket.
        token: says which component asks.
    """

    socket_path: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """Bounds of the queue on disk.

    Attributes:
        max_bytes: payloads and their overhead; full means: finite sources pause, live ones drop the oldest.
        max_age_s: older messages are dropped, counted and announced; None keeps them.
        drain_timeout_s: how long an ending core goes on delivering since the last success.
    """

    max_bytes: int = 256 * MEBIBYTE
    max_age_s: float | None = None
    drain_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """A command that rules may run, named by the device's own file.

    Attributes:
        argv: argument list, run without a shell.
        timeout_s: it is killed after so long.
    """

    argv: tuple[str, ...]
    timeout_s: float = 5.0


CredentialsKind = Literal["auto", "keys", "environment", "profile", "container", "iot", "anonymous"]
"""Where S3 credentials come from. ``auto`` takes the first of these, in this order, for which there are settings."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How model archives are fetched.

    Attributes:
        endpoint: URL of an S3-compatible store; None is AWS.
        region: of the buckets; None follows the bucket's own.
        profile: of the AWS configuration files, for ``profile``.
        access_key_id, secret_access_key: for ``keys``.
        role_alias, credentials_endpoint: of the IoT credentials provider, for ``iot``; its client certificate is the
            device's own (``mqtt.tls``).
        ca_path: PEM file to trust instead of the system's store, for the endpoint and for https.
        proxy: URL of an HTTP proxy; None takes the environment's.
        stall_timeout_s: a download that brings nothing for so long is begun again where it stopped.
        max_bytes: a larger archive is refused while it comes.
    """

    endpoint: str | None = None
    region: str | None = None
    credentials: CredentialsKind = "auto"
    profile: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    role_alias: str | None = None
    credentials_endpoint: str | None = None
    ca_path: str | None = None
    proxy: str | None = field(default=None, repr=False)
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 30.0
    max_bytes: int = 4096 * MEBIBYTE


@dataclass(frozen=True, slots=True)
class AllowSettings:
    """What a deployment that came over the network may use of this device.

    Attributes:
        paths: absolute folders below which its files (images, ``file://`` archives) may lie.
        hosts: host names of ``https://`` archives; ``*.example.org`` allows every name below it. The host of the
            store's endpoint needs no mention.
    """

    paths: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """A public key whose holder may deploy to this device.

    Attributes:
        key_id: the first 16 hexadecimal digits of the sha256 of the raw Ed25519 public key (32 bytes).
        public_key: the raw key, hexadecimal.
    """

    key_id: str
    public_key: str


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """When a new deployment counts as good, and for how long it can still be taken back.

    Attributes:
        healthy_after_s: each pipeline must have run so long without trouble, with a frame where its source gives one.
        watch_s: three crashes within this time of the activation bring the old deployment back.
        deadline_s: from its arrival to its activation; then it has failed.
    """

    healthy_after_s: float = 10.0
    watch_s: float = 600.0
    deadline_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Logs of the core.

    Attributes:
        format: of the files and of standard error: ``text``, or one JSON object a line.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    max_bytes: int = 5 * MEBIBYTE
    kept: int = 3


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """What never comes over the network.

    Attributes:
        mqtt: None prints predictions to standard output.
        root: absolute path of the device's folder.
        trust: whose deployments are taken from the network; empty takes unsigned ones, from whoever the broker lets
            publish them.
        min_isolation: ``container`` refuses deployments, and pipelines, that would run without one.
    """

    thing: str
    root: str
    mqtt: MqttSettings | None = None
    spool: SpoolSettings = SpoolSettings()
    commands: dict[str, CommandSettings] = field(default_factory=dict)
    log: LogSettings = LogSettings()
    store: StoreSettings = StoreSettings()
    allow: AllowSettings = AllowSettings()
    trust: tuple[TrustAnchor, ...] = ()
    health: HealthSettings = HealthSettings()
    min_isolation: Literal["none", "container"] = "none"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model archive is, and the digest it must have.

    Attributes:
        uri: an absolute path, ``file://``, ``s3://BUCKET/KEY`` or ``https://``.
        sha256: hexadecimal, None where the user gave none.
        region: of the bucket, where the deployment says it.
    """

    uri: str
    sha256: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """What runs: models and pipelines.

    Attributes:
        identity: sha256 of the canonical form (its expanded long form without ``revision``, JSON with sorted keys).
        revision: rises with each deployment that comes over the network.
        trust: where not None, the keys that are trusted from now on, once this signed deployment is healthy.
    """

    models: dict[str, ModelSource]
    pipelines: tuple[PipelineSettings, ...]
    revision: int | None = None
    identity: str = ""
    trust: tuple[TrustAnchor, ...] | None = None
