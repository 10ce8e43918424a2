"""Many things that take deployments as a core does, without models: each with its own connection, in one process.

python -m soak.light_things --port 1883 --first 0 --count 250
"""

from __future__ import annotations

import argparse
import selectors
import sys
import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from mli.config.deployment import read_deployment
from mli.core.envelope import open_message
from mli.core.status import DeploymentState, DeploymentStatus, encoded, offline_document
from mli.core.topics import deployment_topic, report_topic, status_topic

STATES: tuple[DeploymentState, ...] = ("received", "verifying", "canary", "activating", "healthy")
KEEPALIVE_S = 60
_TURN_S = 0.5


def name_of(number: int) -> str:
    """Of a light thing."""
    return f"light-{number}"


class LightThing:
    """One connection: subscribed to its deployments, with a last will, and the states of a core."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.is_subscribed = False
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.will_set(status_topic(name), encoded(offline_document(name, "0")), qos=1, retain=True)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", port, KEEPALIVE_S)

    def serve(self, can_write: bool) -> None:
        """Read what has come, and write what waits."""
        self.client.loop_read()
        if can_write and self.client.want_write():
            self.client.loop_write()

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe(deployment_topic(self.name), qos=1)

    def _on_subscribe(self, *_: Any) -> None:
        self.is_subscribed = True
        self._say(status_topic(self.name), offline_document(self.name, "0") | {"state": "online"})

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        opened = open_message(bytes(message.payload), thing=self.name, trust=(), now=time.time())
        if opened.kind != "deployment":
            return
        read = read_deployment(opened.payload, self.name)
        for state in STATES:
            status = DeploymentStatus(self.name, opened.revision or read.revision, read.identity, state, time.time())
            self._say(report_topic(self.name), status.document())

    def _say(self, topic: str, document: dict[str, Any]) -> None:
        self.client.publish(topic, encoded(document), qos=1, retain=True)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    selector = selectors.DefaultSelector()
    things = [LightThing(name_of(options.first + number), options.port) for number in range(options.count)]
    for thing in things:
        line = thing.client.socket()
        assert line is not None
        selector.register(line.fileno(), selectors.EVENT_READ, thing)
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    looked_at, told = time.monotonic(), False
    while True:
        for key, _ in selector.select(_TURN_S):
            if key.data is None:
                return
            key.data.serve(True)
        for thing in things:
            while thing.client.want_write():
                thing.client.loop_write()
        if time.monotonic() - looked_at > 1.0:
            looked_at = time.monotonic()
            for thing in things:
                thing.client.loop_misc()
        if not told and all(thing.is_subscribed for thing in things):
            told = True
            print("ready", flush=True)


if __name__ == "__main__":
    main()
