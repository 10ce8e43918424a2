"""What CloudFormation says of a stack at work, as a person sees it."""

from __future__ import annotations

import sys

import pytest

from mli.cli.stack_view import LinesWatcher
from mli.cloud.stack_failures import Event


def test_a_reason_does_nothing_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A handler of one's own words its reason itself; XML lets C1 controls and changes of direction pass."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    event = Event("1", "Handler", "Custom::X", "DELETE_FAILED", "gone\u009b2J\u202e\nmli: all is well\x1b[1m")
    LinesWatcher(yes=True).event("mli-line-1", event)
    (line,) = capsys.readouterr().err.splitlines()
    assert "DELETE_FAILED" in line
    assert r"gone\x9b2J\u202e\nmli: all is well\x1b[1m" in line
