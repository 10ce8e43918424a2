"""Ends that could hang or hide something: stalled readers, slow and refusing brokers, closed descriptors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fixtures.brokers import Mosquitto, RecordingBrokerProcess, wait_until
from tests.fixtures.color_model import color_archive, endless_on_white, numbered_images, white_image
from tests.fixtures.mli_process import MLI, environment, kill_group, run_mli, start_mli
from tests.fixtures.recording_broker import Behaviour


def run_file(folder: Path, port: int, images: int, **more: Any) -> Path:
    numbered_images(folder / "images", images)
    content = {
        "thing": "t",
        "root": str(folder / "root"),
        "broker": f"mqtt://localhost:{port}",
        "model": str(color_archive(folder)),
        "source": str(folder / "images"),
        "once": True,
        "interval": 0,
        "spool": {"drain_timeout": "1s"},
        **more,
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(content))
    return path


def test_a_reader_that_stopped_reading_does_not_keep_the_core_alive(tmp_path: Path) -> None:
    numbered_images(tmp_path / "images", 30)
    (tmp_path / "run.yaml").write_text(
        json.dumps(
            {
                "thing": "t",
                "root": str(tmp_path / "root"),
                "model": str(color_archive(tmp_path)),
                "source": str(tmp_path / "images"),
                "interval": 0,
                "spool": {"drain_timeout": "1s"},
            }
        )
    )
    process = start_mli("run", tmp_path / "run.yaml", "--json", state=tmp_path)
    try:
        spool = tmp_path / "root" / "spool.db-wal"
        wait_until(lambda: spool.exists() and spool.stat().st_size > 1_000_000, "a pipe that is full")
        process.terminate()
        assert process.wait(60) == 0
    finally:
        kill_group(process)


def test_a_stop_while_the_queue_is_delivered_is_heard(
    recording_broker: RecordingBrokerProcess, tmp_path: Path
) -> None:
    recording_broker.start(Behaviour(silent=True))
    path = run_file(tmp_path, recording_broker.port, 5, spool={"drain_timeout": "1h"})
    process = start_mli("run", path, state=tmp_path)
    try:
        wait_until(lambda: len(recording_broker.events()) >= 5)
        recording_broker.kill()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        kill_group(process)
    assert process.returncode == 130
    assert "5 messages still queued" in errors


def test_a_topic_that_the_broker_denies_is_told(make_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> None:
    broker = make_mosquitto(acl="topic write elsewhere/#\n")
    result = run_mli("run", run_file(tmp_path, broker.port, 3), state=tmp_path)
    assert result.returncode == 1
    assert "The broker does not take mli/predictions/t" in result.stderr
    assert result.stderr.count("does not take") == 1
    assert "3 messages still queued" in result.stderr


def test_messages_that_are_refused_for_good_are_a_failure(
    recording_broker: RecordingBrokerProcess, tmp_path: Path
) -> None:
    recording_broker.start(Behaviour(puback=(("mli/predictions/t", 153),)))
    result = run_mli("run", run_file(tmp_path, recording_broker.port, 3), state=tmp_path)
    assert result.returncode == 1
    assert "3 messages refused by the broker for good, kept as dead letters" in result.stderr


def test_two_bad_frames_in_a_row_are_both_passed(recording_broker: RecordingBrokerProcess, tmp_path: Path) -> None:
    recording_broker.start()
    path = run_file(tmp_path, recording_broker.port, 12, limits={"frame_timeout": "1s"}, image_name=True)
    white_image(tmp_path / "images" / "frame-5.png")
    white_image(tmp_path / "images" / "frame-6.png")
    color_archive(tmp_path, model=endless_on_white)
    result = run_mli("run", path, state=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(recording_broker.events()) == 10
    assert "2 images skipped" in result.stderr


def test_closed_descriptors_are_no_traceback(tmp_path: Path) -> None:
    numbered_images(tmp_path / "images", 2)
    archive = color_archive(tmp_path)
    arguments = ["run", str(archive), str(tmp_path / "images"), "--once", "--interval", "0"]
    command = f"exec {' '.join([*MLI, *arguments])} >&-"
    closed = subprocess.run(
        ["sh", "-c", command], env=environment(tmp_path), stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert closed.returncode == 0, closed.stderr
    assert "2 frames" in closed.stderr
    with open(os.devnull, "rb") as unwritable:
        full = subprocess.run(
            [*MLI, *arguments], env=environment(tmp_path), stdout=subprocess.PIPE, stderr=unwritable, timeout=60
        )
    assert len(full.stdout.splitlines()) == 2


def test_a_command_that_cannot_run_is_found_at_the_start(tmp_path: Path) -> None:
    rule = {"name": "r", "when": {"label": "red"}, "then": {"command": "divert"}}
    for content, words in ((None, "cannot be run on this device"), ("echo hello\n", "is no program")):
        program = tmp_path / "divert"
        if content is not None:
            program.write_text(content)
            program.chmod(0o755)
        path = run_file(tmp_path, 1, 1, rules=[rule], commands={"divert": {"argv": [str(program)]}})
        result = run_mli("run", path, state=tmp_path)
        assert result.returncode == 1
        assert words in result.stderr
