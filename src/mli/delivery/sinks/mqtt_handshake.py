"""Learns which CONNECT a broker takes: MQTT 5 or 3.1.1, with the last will or without."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mli.config.settings import MqttSettings
from mli.delivery.sinks.mqtt_allowance import Allowance, Request
from mli.delivery.sinks.mqtt_connection import End, Protocol, Will

log = logging.getLogger(__name__)

FIRST_ANSWER_S = 3.0  # the first CONNECT: some brokers that do not know MQTT 5 wait for more bytes of it
RETAIN_OR_QOS = frozenset({154, 155})
PROBED_REFUSALS = frozenset({2, 4})  # of a CONNECT with a will; then each tenth


class Handshake:
    """Lives as long as its sink, in the connection's thread.

    Args:
        probe: connects with a protocol and nothing else, and leaves at once; ``closed`` means that it was accepted.
    """

    def __init__(
        self, settings: MqttSettings, will: Will | None, allowance: Allowance, probe: Callable[[Protocol], End]
    ) -> None:
        self._settings = settings
        self._will = will
        self._will_request = will_request(will.topic) if will else None
        self._allowance = allowance
        self._probe = probe
        self._decided: Protocol | None = None if settings.protocol == "auto" else settings.protocol
        self._refusals = 0
        self._is_first = True
        self._tried_will = False

    @property
    def protocol(self) -> Protocol:
        """The one to speak next."""
        return self._decided or "5"

    def next_will(self) -> Will | None:
        """The will for the next connection."""
        self._tried_will = self._will_request is not None and self._allowance.may_ask(self._will_request.name)
        return self._will if self._tried_will else None

    def next_answer_s(self) -> float | None:
        """How long to wait for the next answer; None is as long as for the connection."""
        is_first, self._is_first = self._is_first, False
        return min(FIRST_ANSWER_S, self._settings.connect_timeout_s) if is_first and self._decided is None else None

    def accepted(self, protocol: Protocol) -> None:
        """The broker has taken it."""
        self._decided = protocol
        self._refusals = 0
        if self._tried_will and self._will_request is not None:
            self._allowance.granted(self._will_request)

    def learns(self, end: End) -> bool:
        """Whether the end of an attempt tells what the broker takes, so that this is tried at once."""
        return self._learns_protocol(end) or self._learns_will(end)

    def _learns_protocol(self, end: End) -> bool:
        if self._settings.protocol != "auto" or self.protocol != "5":
            return False
        if end.kind == "unsupported":
            return self._fall_back(end.reason)
        if self._decided is not None:
            return False
        if end.kind not in ("silent", "mute") or not self._speaks_only_311():
            return False
        return self._fall_back(f"{end.reason}, twice, but to one of MQTT 3.1.1 in between")

    def _speaks_only_311(self) -> bool:
        """Some old brokers close the connection on a version that they do not know, or say nothing, as dying ones do.

        Only where 3.1.1 has an answer, be it no, and 5 then has none once more, is it the version.
        """
        old = self._probe("3.1.1")
        is_answer = old.kind == "closed" or (old.kind == "failed" and old.code is not None)
        return is_answer and self._probe("5").kind in ("silent", "mute", "unsupported")

    def _fall_back(self, why: str) -> bool:
        self._decided = "3.1.1"
        log.warning(
            "%s: MQTT 3.1.1 is used from now on. With it a publish that the broker's access list denies is "
            "acknowledged like any other: such a loss cannot be seen from here.",
            why,
        )
        return True

    def _learns_will(self, end: End) -> bool:
        request = self._will_request
        refused = end.kind in ("silent", "mute") or (end.kind == "failed" and end.code is not None)
        if not self._tried_will or request is None or not refused:
            return False
        if end.code not in RETAIN_OR_QOS and not self._allowance.is_left_out(request.name):
            self._refusals += 1
            is_probed = self._refusals in PROBED_REFUSALS or self._refusals % 10 == 0
            if not is_probed or self._probe(self.protocol).kind != "closed":
                return False
        self._allowance.denied(request, f"with it, {end.reason}", is_costly=True)
        return True


def will_request(topic: str) -> Request:
    """How the last will is named, and what the device's policy must allow for it."""
    return Request(
        name=f"last will on {topic}",
        remedy=f"let this device publish retained messages to {topic}; on AWS IoT Core its policy needs iot:Publish "
        f"and iot:RetainPublish on topic/{topic}",
        without="the broker does not say so when this device dies",
    )
