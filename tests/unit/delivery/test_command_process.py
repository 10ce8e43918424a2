"""What is found out before the first command runs."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from mli.delivery.command_process import tied_to_parent


@pytest.mark.parametrize(
    "error", [subprocess.TimeoutExpired("setpriv", 10), BlockingIOError(11, "no more processes")]
)
def test_a_device_too_busy_to_try_it_out_starts_all_the_same(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The core makes its runner of commands while it starts; without one nothing would be predicted."""

    def run(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    assert tied_to_parent.__wrapped__() == ()
