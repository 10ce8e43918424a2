"""The first lines of the rehearsal, as a process: its world has AWS's names in it, and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from rehearsal.page import PAGE
from tests.fixtures.brokers import ROOT
from tests.fixtures.documented import lines_of

COMMANDS = 3

TYPED = """aws sts get-caller-identity --query Arn
sleep 1000 & echo started=$!
ls
device sh -c 'echo keys=$AWS_CONFIG_FILE=$AWS_SHARED_CREDENTIALS_FILE='
exit 7
"""


def test_a_person_gets_a_shell_in_there_and_what_it_started_ends_with_it() -> None:
    # util-linux' script gives it a terminal, as a person has one.
    command = ["script", "--quiet", "--return", "--command", f"{sys.executable} -m rehearsal --shell", os.devnull]
    done = subprocess.run(command, cwd=ROOT, input=TYPED, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "arn:aws:sts::" in done.stdout
    assert "inception-bn.zip" in done.stdout
    assert "\nkeys===" in done.stdout.replace("\r", "")
    started = re.search(r"started=(\d+)", done.stdout)
    assert started is not None, done.stdout
    assert not Path("/proc", started[1], "exe").exists()  # a zombie has none


def test_the_first_lines_of_the_page_work_at_aws_names() -> None:
    command = [sys.executable, "-m", "rehearsal", "core", "--first", str(COMMANDS), "--json"]
    # Whoever rehearses may have an account; nothing may get there.
    environment = {**os.environ, "AWS_PROFILE": "of-mine", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    *outcomes, way = map(json.loads, done.stdout.splitlines())
    assert [one["command"] for one in outcomes] == list(lines_of(PAGE))[:COMMANDS]
    assert "arn:aws:iot:eu-central-1" in outcomes[0]["output"]
    assert way["commands"] == COMMANDS
    assert way["problem"] == ""
    assert {"cloudformation", "iot", "s3", "sts"} <= set(way["asked"])
