"""The first lines of the rehearsal, as a process: its world has AWS's names in it, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from rehearsal.page import PAGE
from tests.fixtures.brokers import ROOT
from tests.fixtures.documented import lines_of

COMMANDS = 3


def test_the_first_lines_of_the_page_work_at_aws_names() -> None:
    command = [sys.executable, "-m", "rehearsal", "core", "--first", str(COMMANDS), "--json"]
    # Whoever rehearses may have an account; nothing may get there.
    environment = {**os.environ, "AWS_PROFILE": "of-mine", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    *outcomes, way = map(json.loads, done.stdout.splitlines())
    assert [one["command"] for one in outcomes] == list(lines_of(PAGE))[:COMMANDS]
    assert "arn:aws:iot:eu-central-1" in outcomes[0]["output"]
    assert way["commands"] == COMMANDS
    assert way["problem"] == ""
    assert {"cloudformation", "iot", "s3", "sts"} <= set(way["asked"])
