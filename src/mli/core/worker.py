"""The worker process: one pipeline, everything up to the socket. ``python -m mli.core.worker FD CORE_PID``.

It parses hostile bytes, so it has no spool, no network of its own and nothing but what ``Start`` and ``Go`` bring.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from mli.core.confinement import die_with_parent, refuse_system_calls
from mli.core.wire import WINDOW, Ack, Failed, Finished, Go, Heartbeat, Ready, Start, Stop, Trying, Warm, Wire
from mli.errors import MliError, RefusedError, StopError
from mli.types import Record

if TYPE_CHECKING:
    from mli.pipeline.loop import PipelineLoop


def main() -> None:
    """Serve one pipeline over the socket whose descriptor is the first argument; the second is the core's pid."""
    die_with_parent(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the core decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    wire = Wire(socket.socket(fileno=int(sys.argv[1])))
    start = wire.receive()
    if not isinstance(start, Start):
        sys.exit(1)
    # What a hijacked worker would want, and none needs: connections of its own, other programs, new namespaces. Also
    # where no container can be had.
    refuse_system_calls(keep=("sendto",))  # on the one socket that there is
    try:
        _serve(wire, start)
    except MliError as error:
        _fail(wire, error, permanent=isinstance(error, (RefusedError, StopError)))
    except MemoryError as error:
        remedy = "raise limits.memory of the pipeline where the device has more, or take a smaller model"
        _fail(wire, StopError("the worker got no more memory", got=str(error), remedy=remedy), permanent=False)
    except Exception as error:
        logging.exception("the worker failed")
        _fail(wire, StopError(f"the worker failed: {type(error).__name__}: {error}"), permanent=False)


def _fail(wire: Wire, error: MliError, *, permanent: bool) -> NoReturn:
    wire.send(Failed(error.to_json(), permanent))
    sys.exit(1)


def _serve(wire: Wire, start: Start) -> None:
    # Imported here, so that a missing library is reported over the wire.
    import cv2

    from mli.pipeline.estimators.registry import open_estimator
    from mli.pipeline.loop import FrameProcessor, PipelineLoop
    from mli.pipeline.rules import RuleEngine
    from mli.pipeline.sources.registry import open_source
    from mli.pipeline.warmup import describe_input, warm_up

    settings = start.settings
    estimator = open_estimator(
        start.model,
        settings.backend,
        threads=settings.threads,
        parallel=settings.source.interval_s == 0,
    )
    if estimator.capacity > 1:
        cv2.setNumThreads(1)  # frames are worked on side by side: one that took all cores would only wait for others
    processor = FrameProcessor(settings, start.model, estimator)
    RuleEngine(settings.rules, start.model.labels)  # told now, and not when the old worker has left
    warm_up(estimator, processor.io)
    wire.send(Warm(estimator.backend, describe_input(processor.io.input)))
    go = wire.receive()
    if not isinstance(go, Go):  # it is not needed after all, or the core is gone
        sys.exit(0)
    outlet = _WireOutlet(wire)
    source = open_source(settings.source, go.resume.position)
    loop = PipelineLoop(settings, start.model, processor, source, go.resume, outlet, go.caution)
    wire.send(Ready())
    receiver = threading.Thread(target=_receive, args=(wire, loop, outlet), name="receive", daemon=True)
    receiver.start()
    ended = loop.run()
    outlet.wait_until_acknowledged()
    wire.send(Finished(ended))


def _receive(wire: Wire, loop: PipelineLoop, outlet: _WireOutlet) -> None:
    while True:
        message = wire.receive()
        if message is None:
            os._exit(1)  # the core is gone, and whatever the other threads do, nobody waits for it
        if isinstance(message, Ack):
            if outlet.acknowledge(message.number):
                loop.wake()
        elif isinstance(message, Stop):
            loop.stop()


class _WireOutlet:
    """Sends records, at most ``WINDOW`` ahead of their acknowledgement."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._sent = 0
        self._acknowledged = 0
        self._changed = threading.Condition()

    def has_room(self) -> bool:
        return self._sent - self._acknowledged < WINDOW

    def send(self, record: Record) -> None:
        self._sent = record.number
        self._wire.send(record)

    def trying(self, position: str) -> None:
        self._wire.send(Trying(position))

    def heartbeat(self, oldest_frame_s: float) -> None:
        self._wire.send(Heartbeat(oldest_frame_s))

    def acknowledge(self, number: int) -> bool:
        """Note what is committed.

        Returns:
            Whether there was no room before: only then somebody waits for it.
        """
        with self._changed:
            before = self._acknowledged
            self._acknowledged = max(before, number)
            self._changed.notify_all()
        # Read after the line above: whoever saw no room saw it before, so at least so many had been sent.
        return self._sent - before >= WINDOW

    def wait_until_acknowledged(self) -> None:
        """Wait for the last record; the heart goes on beating."""
        with self._changed:
            while self._acknowledged < self._sent:
                self._changed.wait(1.0)
                self.heartbeat(0.0)


if __name__ == "__main__":
    main()
