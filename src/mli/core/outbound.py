"""What stands between the pipelines and the world: spool, writer, drain, sink, and the runner of commands."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from mli.config.settings import DeviceSettings
from mli.core.root import Root
from mli.delivery.actions import ActionOutcome, ActionRunner
from mli.delivery.drain import Drain
from mli.delivery.sinks.sink import Sink
from mli.delivery.spool import Spool
from mli.delivery.spool_schema import Settled, StoredFiring
from mli.delivery.spool_writer import SpoolWriter
from mli.errors import MliError

log = logging.getLogger(__name__)

ACTIONS_STOP_S = 2.0


class Outbound:
    """Enter it to open the spool and the sink and to start what moves messages; leaving ends them in order.

    Args:
        on_failure: called once where nothing can be delivered or stored any more.
        on_action: hears what became of each command.

    Raises:
        StopError: on entering: the spool or the sink cannot be used.
    """

    def __init__(
        self,
        device: DeviceSettings,
        root: Root,
        sink: Sink,
        *,
        on_failure: Callable[[MliError], None],
        on_action: Callable[[ActionOutcome], None],
    ) -> None:
        self._device = device
        self._root = root
        self._sink = sink
        self._on_failure = on_failure
        self._on_action = on_action
        self._stack = contextlib.ExitStack()
        self._last_firing = 0
        self.queued_at_start = 0
        self.dead_at_start = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            settled_as: Settled = "handed_on" if self._sink.status().hands_on else "delivered"
            self.spool = Spool(self._root.spool, self._device.spool, sink=self._sink.kind, settled_as=settled_as)
            stack.callback(self.spool.close)
            self.queued_at_start = self.spool.queued
            self.dead_at_start = self.spool.stats().dead
            self.writer = SpoolWriter(self.spool, on_failure=self._on_failure)
            self.writer.start()
            stack.callback(self.writer.stop)
            self.drain = Drain(self.spool, self.writer, self._sink, on_failure=self._on_failure)
            self.drain.start()
            stack.callback(self.drain.stop)
            self.actions = ActionRunner(self.spool, self._device.commands, on_outcome=self._on_action)
            stack.callback(self.actions.stop, ACTIONS_STOP_S)
            self.submit_firings()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def submit_firings(self) -> None:
        """Hand the commands that rules asked for, and that are on disk, to the runner; each once."""
        firings: Sequence[StoredFiring] = self.spool.pending_firings()
        new = [stored for stored in firings if stored.id > self._last_firing]
        if new:
            self._last_firing = new[-1].id
            self.actions.submit(new)

    @property
    def failure(self) -> MliError | None:
        """Why nothing can be delivered or stored any more; None while it can."""
        return self.drain.failure or self.writer.failure
