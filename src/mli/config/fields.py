"""The values that device and deployment files may hold, as pydantic types; each says in its error what it expects."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from mli.config.pem import normal_public_key
from mli.config.units import parse_duration, parse_pixels, parse_size
from mli.config.uris import check_authority, check_endpoint, check_host_pattern, check_model_uri

NAME = r"^[A-Za-z0-9_-]{1,64}$"
THING = r"^[A-Za-z0-9:_-]{1,128}$"
SHA256 = r"^[0-9a-f]{64}$"
REGION = r"^[a-z0-9-]{1,64}$"
ROLE_ALIAS = r"^[A-Za-z0-9_=,@-]{1,128}$"
TOPIC_BYTES = 256
MAX_KEYS = 64


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


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _one_or_list(min_items: int = 0) -> dict[str, Any]:
    """JSON Schema of a text, or a list of them."""
    return {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": min_items}]}


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "examples": ["5s", "200ms", 0]}),
]
Positive = Annotated[Duration, AfterValidator(_positive)]
Size = Annotated[
    int, BeforeValidator(parse_size), WithJsonSchema({"type": ["string", "integer"], "examples": ["500MB"]})
]
KeepAlive = Annotated[Duration, AfterValidator(_keepalive)]
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
    BeforeValidator(_listed),
    Field(min_length=1),
    WithJsonSchema(_one_or_list(min_items=1)),
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
ModelUri = Annotated[str, Field(min_length=1), AfterValidator(_path_text), AfterValidator(check_model_uri)]
Endpoint = Annotated[str, AfterValidator(check_endpoint)]
Host = Annotated[str, AfterValidator(check_host_pattern)]
Authority = Annotated[str, AfterValidator(check_authority)]
Region = Annotated[str, Field(pattern=REGION)]
RoleAlias = Annotated[str, Field(pattern=ROLE_ALIAS)]
PublicKey = Annotated[str, AfterValidator(normal_public_key)]
"""PEM text of an Ed25519 public key, in one spelling."""
PublicKeys = Annotated[
    tuple[PublicKey, ...],
    BeforeValidator(_listed),
    Field(min_length=1, max_length=MAX_KEYS),
    WithJsonSchema(_one_or_list(min_items=1)),
]
PublicKeysOrFiles = Annotated[
    tuple[PathText, ...], BeforeValidator(_listed), Field(max_length=MAX_KEYS), WithJsonSchema(_one_or_list())
]
