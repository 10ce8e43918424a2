"""How many messages a second become durable: through the spool alone, and from a worker's socket to the disk."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from mli.config.settings import SpoolSettings
from mli.core.supervisor import ACK_EVERY
from mli.core.wire import WINDOW, Ack, Wire
from mli.delivery.spool import Spool
from mli.delivery.spool_writer import SpoolWriter
from mli.types import Counters, Message, Prediction, Record

PIPELINE = "bench"


def make_record(epoch: str, number: int) -> Record:
    """A record such as one frame of the demo brings."""
    message = Message(
        id=f"{epoch}-{PIPELINE}-{number}",
        pipeline=PIPELINE,
        sequence=number,
        topic="mli/predictions/bench",
        payload=b'[{"confidence": "0.21719395", "prediction": "n03983396 pop bottle, soda bottle"}]',
        qos=1,
        captured_at=time.time(),
        model_sha256="0" * 64,
    )
    return Record(
        number=number,
        pipeline=PIPELINE,
        sequence=number,
        position=f"/images/frame-{number:06d}.jpg",
        finite=True,
        counters=Counters(frames=number),
        messages=(message,),
        image_name=f"frame-{number:06d}.jpg",
        predictions=(Prediction("n03983396 pop bottle, soda bottle", 737, 0.21719395),),
        latency_ms=12.5,
    )


def disk_rate(folder: Path, writes: int) -> float:
    """Writes of 4 KB a second that the disk itself makes durable one at a time: the bound of window 1."""
    with open(folder / "disk", "wb", buffering=0) as file:
        started = time.perf_counter()
        for _ in range(writes):
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
        return writes / (time.perf_counter() - started)


def spool_rate(folder: Path, window: int, messages: int) -> float:
    """Messages a second that the spool's writer commits while at most ``window`` are uncommitted.

    synchronous=FULL: each was flushed to the disk before it was told to be committed.
    """
    spool = Spool(folder / f"spool-{window}.db", SpoolSettings(), sink="mqtt")
    writer = SpoolWriter(spool)
    writer.start()
    records = [make_record(spool.epoch, number) for number in range(1, messages + 1)]
    room = threading.Semaphore(window)
    started = time.perf_counter()
    for record in records:
        room.acquire()
        writer.submit(record, lambda _: room.release())
    for _ in range(window):
        room.acquire()
    rate = messages / (time.perf_counter() - started)
    writer.stop()
    assert spool.queued == messages
    spool.close()
    return rate


def socket_rate(folder: Path, records: int) -> float:
    """Records a second from another process over the worker's wire to their acknowledgement after the commit."""
    spool = Spool(folder / "socket-spool.db", SpoolSettings(), sink="mqtt")
    writer = SpoolWriter(spool)
    writer.start()
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    command = [sys.executable, "-m", "benchmarks.spool_speed", str(theirs.fileno()), str(records), spool.epoch]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    newest = 0

    def committed(record: Record) -> None:
        if record.number == newest or record.number % ACK_EVERY == 0:
            wire.send(Ack(record.number))

    started = 0.0
    while isinstance(record := wire.receive(60.0), Record):
        started = started or time.perf_counter()
        newest = record.number
        writer.submit(record, committed)
    rate = records / (time.perf_counter() - started)
    writer.stop()
    wire.close()
    assert process.wait(60) == 0
    assert spool.queued == records
    spool.close()
    return rate


def _send_records(descriptor: int, records: int, epoch: str) -> None:
    """The worker's side: as many records as its window allows; ends with the last acknowledgement."""
    wire = Wire(socket.socket(fileno=descriptor))
    acknowledged = 0
    for number in range(1, records + 1):
        while number - acknowledged > WINDOW:
            acknowledged = _acknowledged(wire)
        wire.send(make_record(epoch, number))
    while acknowledged < records:
        acknowledged = _acknowledged(wire)
    wire.close()


def _acknowledged(wire: Wire) -> int:
    message = wire.receive(60.0)
    assert isinstance(message, Ack)
    return message.number


if __name__ == "__main__":
    _send_records(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
