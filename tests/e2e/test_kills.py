"""Processes killed with real signals at random moments: nothing is lost, nothing is left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psutil
from tests.fixtures.brokers import RecordingBrokerProcess, wait_until
from tests.fixtures.color_model import color_archive, endless_on_white, numbered_images, white_image
from tests.fixtures.mli_process import is_alive, kill_group, run_mli, start_mli, workers_of
from tests.fixtures.recording_broker import Behaviour

IMAGES = 1000


class KilledRun:
    """A ``--once`` run over numbered images against a broker that writes down what it acknowledges."""

    def __init__(self, folder: Path, broker: RecordingBrokerProcess, images: int) -> None:
        self.folder = folder
        self.broker = broker
        self.names = numbered_images(folder / "images", images)
        self.archive = color_archive(folder)

    def start(self) -> subprocess.Popen[str]:
        return start_mli(
            "run", self.archive, self.folder / "images", "--once", "--interval", "0", "--thing", "t", "--image-name",
            "--broker", f"localhost:{self.broker.port}", "--root", self.folder / "root",
            state=self.folder / "state",
        )  # fmt: skip

    def received(self) -> int:
        return len(self.broker.events())

    def wait_for(self, count: int, process: subprocess.Popen[str]) -> None:
        """Wait until the broker has so many, or the process has ended."""
        wait_until(lambda: self.received() >= count or process.poll() is not None, f"{count} at {self.broker.port}")

    def check(self) -> None:
        """Every image at least once, no sequence missing, a sequence is one image and one id."""
        images: dict[int, set[str]] = defaultdict(set)
        ids: dict[int, set[str]] = defaultdict(set)
        for event in self.broker.events():
            sequence = int(event["properties"]["sequence"])
            images[sequence].add(json.loads(event["payload"])[0]["image_name"])
            ids[sequence].add(event["properties"]["id"])
        assert sorted(images) == list(range(1, len(self.names) + 1))
        assert all(len(found) == 1 for found in ids.values())
        assert [images[sequence] for sequence in sorted(images)] == [{name} for name in self.names]


def test_every_image_arrives_whatever_is_killed(recording_broker: RecordingBrokerProcess, tmp_path: Path) -> None:
    chance = random.Random(recording_broker.port)  # another one each time, and named when the test fails
    recording_broker.start()
    run = KilledRun(tmp_path, recording_broker, IMAGES)
    process = run.start()
    try:
        # Moments spread over the whole run: at each, a worker, then a core.
        for moment in sorted(chance.sample(range(20, IMAGES - 100), 4)):
            run.wait_for(moment, process)
            for worker in workers_of(process.pid):
                worker.kill()
            run.wait_for(min(run.received() + chance.randrange(1, 40), IMAGES - 50), process)
            orphans = workers_of(process.pid)
            process.kill()
            process.wait()
            wait_until(partial(all_gone, orphans), "the end of the workers")
            process = run.start()
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    finally:
        kill_group(process)
    run.check()


def test_killing_and_restarting_the_broker_loses_nothing(
    recording_broker: RecordingBrokerProcess, tmp_path: Path
) -> None:
    recording_broker.start()
    run = KilledRun(tmp_path, recording_broker, 400)
    process = run.start()
    try:
        wait_until(lambda: run.received() >= 50)
        recording_broker.kill()
        before = run.received()
        recording_broker.start()
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    finally:
        kill_group(process)
    run.check()
    duplicates = run.received() - len(run.names)
    assert run.received() > before
    assert duplicates <= 64, "more than what was in flight came twice"


def test_a_core_killed_after_the_last_frame_makes_none_again(
    recording_broker: RecordingBrokerProcess, tmp_path: Path
) -> None:
    recording_broker.start(Behaviour(silent=True))
    run = KilledRun(tmp_path, recording_broker, 30)
    process = run.start()
    try:
        journal = tmp_path / "root" / "log" / "system" / "runtime.log"
        wait_until(lambda: journal.exists() and "came to its end" in journal.read_text(), "the end of the source")
        process.kill()
        process.wait()
        recording_broker.kill()
        recording_broker.start()
        process = run.start()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    finally:
        kill_group(process)
    run.check()


def test_a_terminated_run_ends_in_order_and_goes_on_where_it_stopped(
    recording_broker: RecordingBrokerProcess, tmp_path: Path
) -> None:
    recording_broker.start()
    run = KilledRun(tmp_path, recording_broker, IMAGES)
    process = run.start()
    try:
        wait_until(lambda: run.received() >= 40)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        first = run.received()
        process = run.start()
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    finally:
        kill_group(process)
    assert first < len(run.names)
    assert run.received() == len(run.names), "an orderly stop makes no duplicates"
    run.check()


def test_ctrl_c_ends_with_130_and_leaves_no_process(recording_broker: RecordingBrokerProcess, tmp_path: Path) -> None:
    recording_broker.start()
    run = KilledRun(tmp_path, recording_broker, 3000)
    process = run.start()
    try:
        wait_until(lambda: run.received() >= 10)
        workers = workers_of(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
        _, errors = process.communicate(timeout=60)
    finally:
        kill_group(process)
    assert process.returncode == 130, errors
    assert workers
    assert "Traceback" not in errors
    assert all_gone(workers)


def test_a_hung_worker_is_replaced(recording_broker: RecordingBrokerProcess, tmp_path: Path) -> None:
    recording_broker.start()
    names = numbered_images(tmp_path / "images", 60)
    settings = {
        "thing": "t",
        "root": str(tmp_path / "root"),
        "broker": f"mqtt://localhost:{recording_broker.port}",
        "model": str(color_archive(tmp_path)),
        "source": {"uri": str(tmp_path / "images"), "once": True, "interval": "50ms"},
        "limits": {"frame_timeout": "1s"},
        "image_name": True,
    }
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    process = start_mli("run", tmp_path / "run.yaml", state=tmp_path / "state")
    try:
        wait_until(lambda: len(recording_broker.events()) >= 5)
        (worker,) = workers_of(process.pid)
        worker.suspend()  # SIGSTOP: it holds its socket and says nothing any more
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    finally:
        kill_group(process)
    assert "the worker was ended" in errors
    assert not is_alive(worker)
    sequences = {int(event["properties"]["sequence"]) for event in recording_broker.events()}
    assert sequences == set(range(1, len(names) + 1))


def all_gone(processes: Sequence[psutil.Process]) -> bool:
    return not any(map(is_alive, processes))


def test_an_image_that_ends_every_worker_is_found_and_skipped(
    recording_broker: RecordingBrokerProcess, tmp_path: Path
) -> None:
    recording_broker.start()
    names = numbered_images(tmp_path / "images", 30)
    white_image(tmp_path / "images" / "frame-12.png")
    settings = {
        "thing": "t",
        "root": str(tmp_path / "root"),
        "broker": f"mqtt://localhost:{recording_broker.port}",
        "model": str(color_archive(tmp_path, model=endless_on_white)),
        "source": {"uri": str(tmp_path / "images"), "once": True, "interval": 0},
        "limits": {"frame_timeout": "1s"},
        "image_name": True,
    }
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    result = run_mli("run", tmp_path / "run.yaml", state=tmp_path / "state")
    assert result.returncode == 0, result.stderr
    assert "skipped frame-12.png: it ended the worker" in result.stderr
    seen = {json.loads(event["payload"])[0]["image_name"] for event in recording_broker.events()}
    assert seen == set(names) - {"frame-12.png"}
