"""What device and deployment files may say, as pydantic models; their JSON Schema is the documentation's.

Long and short form end here: ``mli.config.short_form`` turns the short form into the long one first.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from mli.config.units import parse_duration, parse_pixels, parse_size
from mli.types import Color, Interpolation, Layout, Resize

NAME = r"^[A-Za-z0-9_-]{1,64}$"
THING = r"^[A-Za-z0-9:_-]{1,128}$"
SHA256 = r"^[0-9a-f]{64}$"
TOPIC_BYTES = 256
SOURCE_KEYS = ("interval", "once", "frames")
PUBLISH_KEYS = ("topic", "payload", "qos", "image_name")
"""Keys of ``source`` and ``publish`` that may also stand outside of them."""


def _topic(value: str) -> str:
    allowed = value.replace("{thing}", "").replace("{pipeline}", "")
    if not value or "{" in allowed or "}" in allowed:
        raise ValueError(f"expected a topic; its placeholders are {{thing}} and {{pipeline}}, found {value!r}")
    if "+" in value or "#" in value or "\0" in value:
        raise ValueError("expected a topic to publish on: no wildcards (+ #) and no NUL")
    if value.startswith("$") or len(value.encode()) > TOPIC_BYTES:
        raise ValueError(f"expected a topic of at most {TOPIC_BYTES} bytes that does not start with $")
    return value


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("expected a duration longer than 0")
    return seconds


def _keepalive(seconds: float) -> float:
    if not 5 <= seconds <= 65_535:
        raise ValueError(f"expected 5s to 65535s, which MQTT can say, found {seconds:g}s")
    return seconds


def _channels(value: object) -> object:
    return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _path_text(value: str) -> str:
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("expected text without NUL and broken characters")
    return value


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "examples": ["5s", "200ms", 0]}),
]
Positive = Annotated[Duration, AfterValidator(_positive)]
Size = Annotated[
    int, BeforeValidator(parse_size), WithJsonSchema({"type": ["string", "integer"], "examples": ["500MB"]})
]
Pixels = Annotated[
    tuple[int, int],
    BeforeValidator(parse_pixels),
    PlainSerializer(lambda size: f"{size[0]}x{size[1]}", return_type=str),
    WithJsonSchema({"type": "string", "examples": ["224x224"]}),
]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Channels = Annotated[
    tuple[Finite, ...],
    BeforeValidator(_channels),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}]}),
]
Labels = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
Protocol = Annotated[
    Literal["auto", "5", "3.1.1"],
    BeforeValidator(lambda value: "5" if value == 5 and not isinstance(value, bool) else value),
    WithJsonSchema({"enum": ["auto", 5, "5", "3.1.1"]}),
]
Topic = Annotated[str, AfterValidator(_topic)]
Name = Annotated[str, Field(pattern=NAME)]
Thing = Annotated[str, Field(pattern=THING)]
Sha256 = Annotated[str, Field(pattern=SHA256)]
Confidence = Annotated[float, Field(ge=0, le=1)]
Argument = Annotated[str, Field(min_length=1), AfterValidator(_path_text)]
PathText = Annotated[str, AfterValidator(_path_text)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """A part of a file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelFile(Section):
    """Where a model archive is."""

    uri: Annotated[str, Field(min_length=1, description="path of a .zip or .tar.gz model archive")]
    sha256: Annotated[Sha256 | None, Field(description="digest that the archive's bytes must have")] = None


class SourceFile(Section):
    """Where frames come from."""

    kind: Literal["images", "demo"] = "images"
    uri: Annotated[str, Field(description="folder, glob or single image file")] = ""
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
    rules: tuple[RuleFile, ...] = ()
    publish: PublishFile = PublishFile()
    limits: LimitsFile = LimitsFile()
    isolation: Annotated[
        Literal["auto", "none"], Field(description="auto uses what this device offers; today that is none")
    ] = "auto"


class DeploymentFile(Section):
    """What runs; may come over the network."""

    revision: Annotated[int | None, Field(ge=0)] = None
    models: dict[Name, ModelFile]
    pipelines: Annotated[dict[Name, PipelineFile], Field(min_length=1)]


class TlsFile(Section):
    """Paths of PEM files."""

    ca: str | None = None
    certificate: str | None = None
    private_key: str | None = None
    alpn: str | None = None


class MqttFile(Section):
    """The broker of the device."""

    host: Annotated[str, Field(min_length=1)]
    port: Port | None = None
    client_id: Annotated[str | None, Field(description="default: the thing")] = None
    tls: TlsFile | None = None
    username: str | None = None
    password: Annotated[str | None, Field(description="secret:NAME reads ROOT/secrets/NAME")] = None
    keepalive: Annotated[Duration, AfterValidator(_keepalive)] = 60.0
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


class DeviceFile(Section):
    """What never comes over the network."""

    thing: Thing
    root: PathText | None = None
    mqtt: MqttFile | None = None
    spool: SpoolFile = SpoolFile()
    commands: dict[Name, CommandFile] = {}
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class RunFile(DeviceFile, DeploymentFile):
    """Device and deployment in one file, for ``mli run FILE``."""


def run_file_json_schema() -> dict[str, Any]:
    """The JSON Schema of a file for ``mli run``, in its long and in its short form."""
    schema = RunFile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    parts = schema["$defs"]
    model: dict[str, Any] = {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/ModelFile"}]}
    pipeline = parts["PipelineFile"]["properties"]
    pipeline["source"] = {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/SourceFile"}]}
    pipeline |= {key: parts["SourceFile"]["properties"][key] for key in SOURCE_KEYS}
    pipeline |= {key: parts["PublishFile"]["properties"][key] for key in PUBLISH_KEYS}
    parts["PipelineFile"]["required"] = ["source"]
    top = schema["properties"]
    top["models"]["patternProperties"] = {NAME: model}
    top |= {**pipeline, "model": model}
    top["broker"] = {"type": "string", "description": "address of the broker: mqtt://host or mqtts://host"}
    del schema["required"]
    schema["anyOf"] = [{"required": ["models", "pipelines"]}, {"required": ["source"]}]
    return schema
