"""A worker whose end is seen before its socket's: bubblewrap may end before the process in its container."""

from __future__ import annotations

import signal
import socket
from typing import Any

import pytest

from mli.config.settings import PipelineSettings, PublishSettings, SourceSettings
from mli.core.isolation.isolator import Isolator
from mli.core.wire import Go, Start
from mli.core.worker_process import WorkerProcess
from mli.types import ModelSpec, ResumeState

SETTINGS = PipelineSettings(
    "main", "thing", SourceSettings("images"), "m", PublishSettings("predictions"), isolation="none"
)
MODEL = ModelSpec("color", "1", "ab" * 32, "onnx", "classification", "/models", "m.onnx", ("red",))


def test_it_is_told_how_it_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    launch, held = Isolator.launch, []

    def launch_held(self: Isolator, *arguments: Any, pass_fds: list[int], **options: Any) -> Any:
        held.append(socket.socket(fileno=socket.dup(pass_fds[0])))
        return launch(self, *arguments, pass_fds=pass_fds, **options)

    monkeypatch.setattr(Isolator, "launch", launch_held)
    worker = WorkerProcess(Start(SETTINGS, MODEL), lambda _: None, Isolator())
    worker.kill()
    death = worker.run(Go(ResumeState("cafe0123")))
    assert f"killed by {signal.SIGKILL.name}" in str(death.error)
    held[0].close()
