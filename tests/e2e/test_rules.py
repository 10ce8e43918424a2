"""Step 7, handling the result: rules fire, commands run at most once, and nothing of it slows the pipeline."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.fixtures.brokers import RecordingBrokerProcess
from tests.fixtures.color_model import color_archive, numbered_images
from tests.fixtures.mli_process import run_mli

FRAMES = 60


def settings(folder: Path, broker: RecordingBrokerProcess, rules: list[dict[str, Any]], **device: Any) -> Path:
    numbered_images(folder / "images", FRAMES)
    content = {
        "thing": "t",
        "root": str(folder / "root"),
        "broker": f"mqtt://localhost:{broker.port}",
        "model": str(color_archive(folder)),
        "source": str(folder / "images"),
        "once": True,
        "interval": 0,
        "rules": rules,
        **device,
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(content))
    return path


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_rule_publishes_and_its_firings_and_refusals_can_be_read(
    recording_broker: RecordingBrokerProcess, tmp_path: Path
) -> None:
    recording_broker.start()
    rule = {
        "name": "blue-seen",
        "when": {"label": "blue", "confidence": 0.5, "matches": 2, "of": 6},
        "then": {"publish": "mli/actions/{thing}"},
    }
    result = run_mli("run", settings(tmp_path, recording_broker, [rule]), state=tmp_path)
    assert result.returncode == 0, result.stderr
    fired = [event for event in recording_broker.events() if event["topic"] == "mli/actions/t"]
    # Each third frame is blue: the second blue one fires, and then the count begins anew.
    assert len(fired) == FRAMES // 6
    first = json.loads(fired[0]["payload"])
    assert first["rule"] == "blue-seen"
    assert first["label"] == "blue"
    assert first["image_name"] == "frame-5.png"
    assert fired[0]["properties"]["id"].endswith("-main-6-blue-seen")
    journal = (tmp_path / "root" / "log" / "user" / "main.log").read_text()
    assert "frame 6: rule blue-seen fired: blue" in journal
    assert "frame 1: rule blue-seen did not fire: saw red" in journal
    assert "frame 3: rule blue-seen did not fire: matched 1 of 2 in the last 6 frames" in journal


def test_a_command_of_the_device_runs(recording_broker: RecordingBrokerProcess, tmp_path: Path) -> None:
    recording_broker.start()
    code = "import os; open('out','a').write(os.environ['MLI_IMAGE_NAME'] + os.linesep)"
    rule = {
        "name": "first-blue",
        "when": {"label": "blue", "cooldown": "1h"},
        "then": {"command": "note", "max_age": "1m"},
    }
    commands = {"note": {"argv": python(f"import os; os.chdir({str(tmp_path)!r}); {code}"), "timeout": "20s"}}
    result = run_mli("run", settings(tmp_path, recording_broker, [rule], commands=commands), state=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out").read_text().split() == ["frame-2.png"]
    assert "command note ran" in result.stderr
    journal = (tmp_path / "root" / "log" / "user" / "main.log").read_text()
    assert "cool-down" in journal


def test_commands_that_hang_or_fail_or_come_late_do_not_hold_up_predictions(
    recording_broker: RecordingBrokerProcess, tmp_path: Path
) -> None:
    recording_broker.start()
    hang = {"name": "hang", "when": {"label": "red"}, "then": {"command": "hang", "max_age": "1s"}}
    fail = {"name": "fail", "when": {"label": "green"}, "then": {"command": "fail", "max_age": "1m"}}
    commands = {
        "hang": {"argv": python("import signal; signal.pause()"), "timeout": "1s"},
        "fail": {"argv": python("import sys; sys.exit('the valve is stuck')"), "timeout": "20s"},
    }
    path = settings(tmp_path, recording_broker, [hang, fail], commands=commands)
    result = run_mli("run", path, state=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(recording_broker.events()) == FRAMES
    assert "the valve is stuck" in result.stderr
    log = (tmp_path / "root" / "log" / "system" / "runtime.log").read_text()
    assert "timed_out" in log or "timed out" in log
    assert "dropped" in log


def test_a_label_that_the_model_lacks_is_an_error_before_anything_starts(
    recording_broker: RecordingBrokerProcess, tmp_path: Path
) -> None:
    recording_broker.start()
    rule = {"name": "divert", "when": {"label": "bleu"}, "then": {"publish": "mli/actions/{thing}"}}
    result = run_mli("run", settings(tmp_path, recording_broker, [rule]), state=tmp_path)
    assert result.returncode == 1
    assert "the model has no label 'bleu'" in result.stderr
    assert "did you mean 'blue'?" in result.stderr
    assert recording_broker.events() == []


def test_a_command_that_the_device_does_not_name_is_refused(
    recording_broker: RecordingBrokerProcess, tmp_path: Path
) -> None:
    recording_broker.start()
    rule = {"name": "divert", "when": {"label": "blue"}, "then": {"command": "divret"}}
    path = settings(tmp_path, recording_broker, [rule], commands={"divert": {"argv": ["true"]}})
    result = run_mli("run", path, state=tmp_path)
    assert result.returncode == 2
    assert "the device allows no command 'divret'" in result.stderr
    assert "did you mean 'divert'?" in result.stderr
