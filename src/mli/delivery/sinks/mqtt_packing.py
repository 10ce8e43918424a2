"""How a message's own properties become bytes of an MQTT 5 PUBLISH."""

from __future__ import annotations

from paho.mqtt.properties import Properties

from mli.delivery.sinks.identifying import identifying_pairs
from mli.types import Message


def message_properties(message: Message) -> Properties:
    """What tells a message's identity beside its payload."""
    return _PackedProperties(identifying_pairs(message))


def publish_bytes(message: Message) -> int:
    """Upper bound of the size of the MQTT 5 PUBLISH packet, header included."""
    pairs = sum(5 + len(name.encode()) + len(value.encode()) for name, value in identifying_pairs(message))
    return 5 + 2 + len(message.topic.encode()) + 2 + 4 + pairs + len(message.payload)


class _PackedProperties(Properties):
    """User properties, packed by us: paho's general way takes longer than all else that a publish does."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        body = b"".join(b"\x26" + _utf8(name) + _utf8(value) for name, value in pairs)
        # paho's own __setattr__ takes only names of MQTT properties.
        object.__setattr__(self, "_packed", _length(len(body)) + body)
        object.__setattr__(self, "_pairs", pairs)

    def pack(self) -> bytes:
        """The bytes as they go into the packet."""
        packed: bytes = object.__getattribute__(self, "_packed")
        return packed

    def __str__(self) -> str:
        return str(object.__getattribute__(self, "_pairs"))


def _utf8(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _length(number: int) -> bytes:
    """MQTT's variable byte integer."""
    encoded = bytearray()
    while True:
        number, part = divmod(number, 128)
        encoded.append(part | (0x80 if number else 0))
        if not number:
            return bytes(encoded)
