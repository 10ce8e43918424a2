"""The deployment that the broker holds for this thing, opened and checked as the core would."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mli.errors import MliError

if TYPE_CHECKING:
    from mli.config.settings import DeploymentSettings
    from mli.core.doctor.knocking import Knock
    from mli.core.doctor.patient import Patient


@dataclass(frozen=True, slots=True)
class Wanted:
    """What came of asking the broker.

    Attributes:
        knock: how it went; whether the subscription was granted.
        kind: ``nothing`` where the topic is empty.
        deployment: None where there is none, or it cannot be taken: ``error``.
    """

    knock: Knock
    kind: Literal["deployment", "cancel", "nothing"] = "nothing"
    revision: int | None = None
    deployment: DeploymentSettings | None = None
    error: MliError | None = None


class WantedReader:
    """Asks the broker once, for all checks that want to know."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: Wanted | None = None

    def read(self, patient: Patient) -> Wanted | None:
        """None where there is no broker to ask."""
        with self._lock:
            if self._found is None:
                self._found = _ask(patient)
            return self._found


def _ask(patient: Patient) -> Wanted | None:
    from mli.core.doctor.knocking import knock
    from mli.core.topics import deployment_topic

    device, broker = patient.device, patient.broker()
    if device is None or broker is None:
        return None
    topic = deployment_topic(device.thing)
    found = knock(broker, patient.knocking_id(), subscribe=(topic,), stay=True)
    message = found.retained.get(topic)
    return Wanted(found) if message is None else _opened(message, found, patient)


def _opened(message: bytes, found: Knock, patient: Patient) -> Wanted:
    from mli.config.deployment import parse_deployment
    from mli.core.doctor.records import read_highest, read_trust
    from mli.core.envelope import open_message

    device = patient.device
    assert device is not None
    highest = read_highest(patient.root).get("revision")
    try:
        opened = open_message(
            message,
            thing=device.thing,
            trust=read_trust(patient.root, device.trust),
            now=patient.now(),
            highest=highest if isinstance(highest, int) else None,
        )
        if opened.kind != "deployment":
            return Wanted(found, opened.kind, opened.revision)
        deployment = parse_deployment(
            opened.payload, device, origin="remote", folder=Path(device.root), name="the retained message"
        )
    except MliError as error:
        return Wanted(found, "deployment", error=error)
    revision = opened.revision if opened.revision is not None else deployment.revision
    return Wanted(found, "deployment", revision, deployment)
