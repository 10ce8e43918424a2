"""``mli stack deploy`` as a process that is killed or interrupted in the middle: the next run goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.fixtures.brokers import wait_until
from tests.fixtures.mli_process import kill_group, run_mli, start_mli
from tests.fixtures.stack_rig import MODELS, Rig

NEVER = 1_000_000
"""So many looks that a stack stays at work until the test lets it come to its end."""


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process leaves there goes with the test's own folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def arguments(rig: Rig) -> list[str]:
    return ["stack", "deploy", "line-1", "--certificate", rig.certificate, "--model", f"s3://{MODELS}/m.zip"]


def start_and_wait(rig: Rig, state: Path, stack: str) -> subprocess.Popen[str]:
    process = start_mli(*arguments(rig), state=state)
    wait_until(lambda: rig.status(stack) == "CREATE_IN_PROGRESS" or process.poll() is not None, f"{stack} at work")
    assert process.poll() is None
    return process


@pytest.mark.parametrize("stack", ["mli-shared", "mli-line-1"])
def test_killed_while_a_stack_is_made_the_next_run_follows_it_and_goes_on(
    stack_rig: Rig, tmp_path: Path, stack: str
) -> None:
    if stack == "mli-line-1":
        stack_rig.stack("deploy", "--shared")
        stack_rig.deploy("line-0")
        stack_rig.add_certificate()
    stack_rig.moto.slow_stacks(NEVER)
    process = start_and_wait(stack_rig, tmp_path, stack)
    kill_group(process)
    assert process.returncode == -signal.SIGKILL

    next_run = start_mli(*arguments(stack_rig), state=tmp_path)
    assert next_run.stderr is not None
    line = next(line for line in next_run.stderr if "followed to its end first" in line)
    assert line.startswith(f"mli: {stack} is CREATE_IN_PROGRESS")
    stack_rig.moto.slow_stacks(0)
    _, errors = next_run.communicate(timeout=120)
    assert next_run.returncode == 0, errors
    assert stack_rig.status("mli-line-1") == "CREATE_COMPLETE"
    assert "line-1" in stack_rig.things()
    assert run_mli(*arguments(stack_rig), state=tmp_path).stdout.splitlines()[:2] == [
        "mli-shared: nothing to change",
        "mli-line-1: nothing to change",
    ]
    assert stack_rig.change_sets() == []


def test_interrupted_it_says_what_goes_on(stack_rig: Rig, tmp_path: Path) -> None:
    stack_rig.moto.slow_stacks(NEVER)
    process = start_and_wait(stack_rig, tmp_path, "mli-shared")
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "What CloudFormation began goes on by itself" in errors
    assert "Traceback" not in errors


def test_a_plan_that_a_killed_run_left_is_used_and_cleared(stack_rig: Rig, tmp_path: Path) -> None:
    stack_rig.stack("deploy", "--shared")
    template = stack_rig.client("cloudformation").get_template(StackName="mli-shared")["TemplateBody"]
    stack_rig.client("cloudformation").create_change_set(
        StackName="mli-line-1", ChangeSetName="mli-left", ChangeSetType="CREATE", TemplateBody=template
    )
    assert stack_rig.status("mli-line-1") == "REVIEW_IN_PROGRESS"
    ran = run_mli(*arguments(stack_rig), state=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (stack_rig.status("mli-line-1"), stack_rig.change_sets()) == ("CREATE_COMPLETE", [])


def test_without_credentials_or_with_a_wrong_region_nothing_is_asked(
    stack_rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = run_mli(*arguments(stack_rig), "--region", "eu-nowhere-1", state=tmp_path)
    assert (wrong.returncode, "no such region" in wrong.stderr) == (2, True)
    misspelled = run_mli(*arguments(stack_rig), "--region", "eu-centrel-1", state=tmp_path)
    assert "did you mean 'eu-central-1'?" in misspelled.stderr
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    ran = run_mli(*arguments(stack_rig), state=tmp_path)
    assert (ran.returncode, "There are no AWS credentials here." in ran.stderr) == (1, True)
    assert "Traceback" not in ran.stderr + wrong.stderr
