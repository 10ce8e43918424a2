"""Where a core lives: its line to the world, and where its deployments come from. The agent is the same in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from mli import __version__
from mli.config.settings import DeviceSettings
from mli.core.intake import Intake
from mli.core.status import encoded, offline_document
from mli.core.topics import deployment_topic, status_topic
from mli.delivery.sinks.sink import StatefulSink
from mli.errors import UsageError

Deliver = Callable[[bytes, bool], None]
"""Takes a deployment message, and whether the broker had it from before; does not block."""


class Home(Protocol):
    """What differs between a device of its own and a component of Greengrass."""

    @property
    def origin(self) -> Literal["remote", "component"]:
        """How ``Intake`` takes its deployments."""

    @property
    def problem(self) -> str | None:
        """What is wrong with it, for the summary."""

    def make_sink(self, deliver: Deliver) -> StatefulSink:
        """The line for predictions and states; deployments that come on it are delivered.

        Raises:
            UsageError: the device's settings name none.
        """

    def message(self, document: dict[str, Any]) -> bytes:
        """A status document as this line takes it."""

    def start(self, intake: Intake, request_stop: Callable[[], None]) -> None:
        """From now on deployments may come."""

    def stop(self) -> None:
        """None comes any more."""


class BrokerHome:
    """A device with a broker: deployments are retained messages on the one connection that it has."""

    origin: Literal["remote", "component"] = "remote"
    problem: str | None = None

    def __init__(self, device: DeviceSettings) -> None:
        self._device = device

    def make_sink(self, deliver: Deliver) -> StatefulSink:
        """See ``Home``."""
        from mli.delivery.sinks.mqtt import Incoming, MqttSink, Will

        mqtt, thing = self._device.mqtt, self._device.thing
        if mqtt is None:
            raise UsageError(
                "the device has no broker",
                where=self._device.root,
                remedy="give it one: `mqtt:` in device.yaml, or config/config.json",
            )

        def take(incoming: Incoming) -> None:
            if incoming.topic == deployment_topic(thing):
                deliver(incoming.payload, incoming.retained)

        return MqttSink(
            mqtt,
            topics=(deployment_topic(thing),),
            on_message=take,
            will=Will(status_topic(thing), encoded(offline_document(thing, __version__))),
        )

    def message(self, document: dict[str, Any]) -> bytes:
        """See ``Home``."""
        return encoded(document)

    def start(self, intake: Intake, request_stop: Callable[[], None]) -> None:
        """They come from the sink."""

    def stop(self) -> None:
        """The sink ends by itself."""
