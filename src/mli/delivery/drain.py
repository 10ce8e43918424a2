"""Moves messages from the spool to the sink: in order, several in flight, settled when their fate is known."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mli.delivery.sinks.sink import Sink, SinkStatus
from mli.delivery.spool import Spool
from mli.delivery.spool_schema import Refusal, SpooledMessage
from mli.delivery.spool_writer import SpoolWriter
from mli.errors import MliError
from mli.types import Message

log = logging.getLogger(__name__)

IDLE_S = 1.0  # how often messages that were deferred are looked for
KEPT_LATENCIES = 2_000
FRUITLESS_BEFORE_SOLO = 2
MAX_PAUSE_S = 5.0
GATHER_S = 0.005  # news waits so long for more, while most of the window is free: nobody waits for it
MANY_EVENTS = 16
CLAIM_PART = 4  # of the window must be free before more is claimed, while some is in flight


@dataclass(frozen=True, slots=True)
class DrainStatus:
    """What the drain does.

    Attributes:
        in_flight: published, fate not known yet.
        latency_p50_ms, latency_p99_ms: from capture to delivery, of the last 2,000; None before the first.
        last_refusal: topic and answer of the last message that the broker did not take.
        not_taken: the same of each topic of which the broker has taken nothing since.
        failure: why the sink has ended for good.
    """

    sink: SinkStatus
    in_flight: int
    delivered: int
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    last_refusal: str | None = None
    not_taken: tuple[str, ...] = ()
    failure: str | None = None


class Drain:
    """One thread between spool and sink, and the sink's listener.

    Each message is delivered at least once; only what was in flight when a connection or the process ended is
    delivered twice.

    Args:
        max_inflight: publishes whose fate is unknown, at most; the sink's window may allow fewer.
        on_failure: called once when the sink cannot be used any more.
    """

    def __init__(
        self,
        spool: Spool,
        writer: SpoolWriter,
        sink: Sink,
        *,
        max_inflight: int = 64,
        clock: Callable[[], float] = time.time,
        on_failure: Callable[[MliError], None] | None = None,
    ) -> None:
        self._spool = spool
        self._writer = writer
        self._sink = sink
        self._max_inflight = max_inflight
        self._clock = clock
        self._began_at = clock()
        self._told: dict[str, str] = {}  # topic → why the broker does not take it for now
        self._last_refusal: str | None = None
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._events: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._committed = False
        self._in_flight: dict[int, SpooledMessage] = {}
        self._settling: set[int] = set()
        self._done: list[int] = []
        self._refused: list[Refusal] = []
        self._latencies_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._delivered = 0
        self._fruitless = 0  # connections in a row that ended with publishes and without any answer
        self._pause_s = 0.0
        self._paused_until = 0.0
        self._failure: MliError | None = None
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)
        writer.add_commit_listener(self._wake)

    @property
    def failure(self) -> MliError | None:
        """Why nothing can be delivered any more; None while it can."""
        return self._failure

    def start(self) -> None:
        """Open the sink and begin to deliver.

        Raises:
            StopError: the sink's settings cannot work.
        """
        self._sink.open(self)
        self._thread.start()

    def stop(self) -> None:
        """Close the sink; what was in flight stays in the spool, what is known to be delivered is settled."""
        self._sink.close()
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def wait_until_empty(self, no_progress_timeout_s: float, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Wait until nothing is queued for the sink; False where it is not: no progress, cancelled, or failed."""
        progress = (self._delivered, self._spool.queued)
        deadline = time.monotonic() + no_progress_timeout_s
        while True:
            with self._changed:
                if self._spool.queued == 0 and not self._settling and not self._in_flight:
                    return True
                if self._failure or cancelled():
                    return False
                now = (self._delivered, self._spool.queued)
                if now != progress:
                    progress, deadline = now, time.monotonic() + no_progress_timeout_s
                if time.monotonic() >= deadline:
                    return False
                self._changed.wait(0.1)

    def status(self) -> DrainStatus:
        """Connection, progress and latencies."""
        with self._changed:
            ordered = sorted(self._latencies_s)
            return DrainStatus(
                sink=self._sink.status(),
                in_flight=len(self._in_flight),
                delivered=self._delivered,
                latency_p50_ms=_percentile_ms(ordered, 0.50),
                latency_p99_ms=_percentile_ms(ordered, 0.99),
                last_refusal=self._last_refusal,
                not_taken=tuple(f"{topic}: {reason}" for topic, reason in self._told.copy().items()),
                failure=str(self._failure) if self._failure else None,
            )

    # --- what the sink tells (from its threads) ------------------------------------------------------------

    def connected(self) -> None:
        """See ``SinkListener``."""
        self._tell(lambda: None)

    def disconnected(self, reason: str) -> None:
        """See ``SinkListener``."""
        self._tell(lambda: self._lose(reason))

    def delivered(self, rowid: int) -> None:
        """See ``SinkListener``."""
        at = self._clock()
        self._tell(lambda: self._take_delivery(rowid, at))

    def refused(self, rowid: int, reason: str, permanent: bool) -> None:
        """See ``SinkListener``."""
        self._tell(lambda: self._take_refusal(Refusal(rowid, reason, permanent)))

    def failed(self, error: MliError) -> None:
        """See ``SinkListener``."""
        self._tell(lambda: self._fail(error))

    def _tell(self, event: Callable[[], None]) -> None:
        with self._changed:
            self._events.append(event)
            if len(self._events) in (1, MANY_EVENTS):  # in between, the thread is awake or gathers
                self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._committed = True
            self._changed.notify_all()

    # --- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wait()
                self._step()
            self._step()
        except Exception as error:  # the thread's edge: the core must hear of it
            log.critical("The drain ended: %s", error, exc_info=error)
            self._fail(error if isinstance(error, MliError) else _unexpected(error))

    def _wait(self) -> None:
        with self._changed:
            if not (self._events or self._committed or self._stopping):
                pause_s = self._paused_until - time.monotonic()
                self._changed.wait(min(IDLE_S, pause_s) if pause_s > 0 else IDLE_S)
            if self._may_gather():
                self._changed.wait(GATHER_S)
            self._committed = False

    def _may_gather(self) -> bool:
        waiting = self._committed or self._stopping or len(self._events) >= MANY_EVENTS
        return not waiting and len(self._in_flight) <= self._sink.window // 2

    def _step(self) -> None:
        while self._events:
            self._events.popleft()()
        self._settle()
        if not self._stopping and not self._failure:
            self._publish()

    def _publish(self) -> None:
        window = min(self._sink.window, 1 if self._is_solo() else self._max_inflight)
        free = window - len(self._in_flight)
        if free <= 0 or time.monotonic() < self._paused_until:
            return
        if self._in_flight and free < window // CLAIM_PART:
            return  # a deep queue: many in one go cost little more than one
        try:
            claimed = self._spool.claim(free)
        except MliError as error:
            log.error("The spool could not be read: %s", error)
            self._paused_until = time.monotonic() + IDLE_S
            return
        # Entered before the first publish: an answer may come before ``publish`` returns.
        with self._changed:
            self._in_flight.update((one.rowid, one) for one in claimed)
        for one in claimed:
            self._sink.publish(one)

    def _settle(self) -> None:
        if not self._done and not self._refused:
            return
        delivered, refused = self._done, self._refused
        self._done, self._refused = [], []
        rowids = {*delivered, *(refusal.rowid for refusal in refused)}
        with self._changed:
            self._settling |= rowids
        self._writer.settle(delivered, refused, lambda: self._take_settled(rowids))
        self._pace(bool(delivered), any(not refusal.permanent for refusal in refused))

    def _take_settled(self, rowids: set[int]) -> None:
        with self._changed:
            self._settling -= rowids
            self._changed.notify_all()

    def _pace(self, some_delivered: bool, some_deferred: bool) -> None:
        """A broker that refuses all for now is asked less often, not flooded with the whole queue."""
        if some_delivered:
            self._pause_s = 0.0
        elif some_deferred:
            self._pause_s = min(MAX_PAUSE_S, self._pause_s * 2 or 0.05)
            self._paused_until = time.monotonic() + self._pause_s

    def _take_delivery(self, rowid: int, at: float) -> None:
        one = self._in_flight.pop(rowid, None)
        if one is None:
            return  # of a connection that is gone; it is published again
        self._fruitless = 0
        self._done.append(rowid)
        if self._told:
            self._told.pop(one.message.topic, None)
        with self._changed:
            self._delivered += 1
            if one.message.captured_at >= self._began_at:  # a backlog's age says nothing of how fast this is
                self._latencies_s.append(at - one.message.captured_at)

    def _take_refusal(self, refusal: Refusal) -> None:
        one = self._in_flight.pop(refusal.rowid, None)
        if one is None:
            return
        self._fruitless = 0
        self._refuse(one.message, refusal)

    def _refuse(self, message: Message, refusal: Refusal) -> None:
        self._refused.append(refusal)
        topic = message.topic
        self._last_refusal = f"{topic}: {refusal.reason}"
        kind = refusal.reason.partition(":")[0] if refusal.permanent else refusal.reason  # without the sizes
        if self._told.get(topic) == kind:  # once, until something of this topic is taken again
            return
        self._told[topic] = kind
        if refusal.permanent:
            log.error(
                "Message %s on %s was refused for good: %s. It is a dead letter now; others like it are only counted",
                *(message.id, topic, refusal.reason),
            )
        else:
            log.warning("The broker does not take %s: %s; it waits and is tried again", topic, refusal.reason)

    def _lose(self, reason: str) -> None:
        lost, self._in_flight = self._in_flight, {}
        if not lost:
            return
        if self._is_solo():
            # Some brokers answer a message that they do not want by closing the connection (AWS IoT Core). Alone in
            # flight it is found out and has to wait, so that it cannot hold up all the others for ever.
            said = f"the connection ended while it alone was in flight ({reason})"
            for rowid, one in lost.items():
                self._refuse(one.message, Refusal(rowid, said, permanent=False))
        else:
            self._spool.release(lost)
        self._fruitless += 1

    def _is_solo(self) -> bool:
        return self._fruitless >= FRUITLESS_BEFORE_SOLO

    def _fail(self, error: MliError) -> None:
        with self._changed:
            if self._failure:
                return
            self._failure = error
            self._changed.notify_all()
        if self._on_failure:
            self._on_failure(error)


def _percentile_ms(ordered_s: list[float], part: float) -> float | None:
    if not ordered_s:
        return None
    return 1000.0 * ordered_s[min(len(ordered_s) - 1, int(part * len(ordered_s)))]


def _unexpected(error: Exception) -> MliError:
    wrapped = MliError("The drain failed in a way that it should not.", got=f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
