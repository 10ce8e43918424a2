"""A core that is a component: its deployment is the component's configuration, its line goes through the nucleus."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

from mli import __version__
from mli.config.component import ComponentEnvironment, ComponentSettings
from mli.core.component.follower import Follower
from mli.core.component.shortening import shortened
from mli.core.home import Deliver
from mli.core.intake import Intake
from mli.core.root import Root
from mli.core.status import encoded, offline_document
from mli.core.topics import status_topic
from mli.delivery.sinks.greengrass import MAX_PAYLOAD_BYTES, GreengrassSink
from mli.delivery.sinks.sink import StatefulSink
from mli.errors import MliError, RefusedError

log = logging.getLogger(__name__)


class ComponentHome:
    """See ``Home``.

    Args:
        settings: that the core was started with.
        problem: why they are not those of the present configuration.
    """

    origin: Literal["remote", "component"] = "component"

    def __init__(
        self, environment: ComponentEnvironment, root: Root, settings: ComponentSettings, problem: MliError | None
    ) -> None:
        self._environment = environment
        self._settings = settings
        self._follower = Follower(environment, root, settings, problem)

    @property
    def wants_another(self) -> bool:
        """The core was asked to stop because its configuration has changed in more than the deployment."""
        return self._follower.wants_another

    @property
    def failure(self) -> MliError | None:
        """Why the core was asked to stop, where it is not for a change of the configuration."""
        return self._follower.failure

    @property
    def problem(self) -> str | None:
        """See ``Home``: a configuration that cannot be used, or a way of delivery that is not possible here."""
        error = self._follower.problem or self._settings.held
        return None if error is None else str(error)

    @property
    def _over_mqtt(self) -> bool:
        return self._settings.delivery == "mqtt" and self._settings.held is None

    def make_sink(self, _deliver: Deliver) -> StatefulSink:
        """See ``Home``. A connection of our own that is not possible keeps predictions, and states still get out."""
        mqtt, thing = self._settings.device.mqtt, self._settings.device.thing
        if not self._over_mqtt or mqtt is None:
            return GreengrassSink(self._environment.nucleus, held=self._settings.held)
        from mli.delivery.sinks.mqtt import MqttSink, Will

        return MqttSink(mqtt, will=Will(status_topic(thing), encoded(offline_document(thing, __version__))))

    def message(self, document: dict[str, Any]) -> bytes:
        """See ``Home``."""
        return encoded(document) if self._over_mqtt else shortened(document, MAX_PAYLOAD_BYTES)

    def start(self, intake: Intake, request_stop: Callable[[], None]) -> None:
        """See ``Home``."""
        environment = self._environment
        log.info("a component of nucleus %s, region %s", environment.nucleus_version, environment.region)
        problem = self._follower.problem
        if problem is None:
            intake.message(self._settings.deployment, retained=True)
        elif isinstance(problem, RefusedError):  # else it could not be asked for yet
            intake.refuse(problem)
        self._follower.start(intake, request_stop)

    def stop(self) -> None:
        """See ``Home``."""
        self._follower.stop()
