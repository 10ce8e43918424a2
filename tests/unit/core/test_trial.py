"""When a new deployment counts as good, and when it is taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from mli.config.settings import HealthSettings
from mli.core.supervisor import PipelineStatus, State
from mli.core.trial import CRASHES, Trial
from mli.core.worker_process import Death
from mli.errors import StopError
from mli.types import Counters, ModelSpec

HEALTH = HealthSettings(healthy_after_s=10, watch_s=600)
CRASH = Death(error=StopError("the worker died: killed by SIGSEGV", got="its last line", remedy="look at it"))
MODEL = ModelSpec(
    name="color",
    version="1",
    sha256="ab" * 32,
    directory="/models",
    format="onnx",
    task="classification",
    model_file="color.onnx",
    labels=("red",),
)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def status(name: str = "new", state: State = "running", frames: int = 1, busy: bool = False) -> PipelineStatus:
    return PipelineStatus(name, MODEL, 1, state=state, counters=Counters(frames=frames), busy=busy)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_trial(clock: Clock) -> Callable[..., Trial]:
    def make(**changes: object) -> Trial:
        return Trial("identity", HEALTH, ("new", "other"), clock=clock, **changes)  # type: ignore[arg-type]

    return make


def test_it_is_healthy_after_a_while_without_trouble(make_trial: Callable[..., Trial], clock: Clock) -> None:
    trial = make_trial()
    clock.now += 9.9
    assert trial.verdict([status(), status("other")]) == "waiting"
    clock.now += 0.2
    assert trial.verdict([status(), status("other")]) == "healthy"


def test_a_crash_begins_the_while_anew(make_trial: Callable[..., Trial], clock: Clock) -> None:
    trial = make_trial()
    clock.now += 9
    trial.died("new", CRASH)
    clock.now += 9
    assert trial.verdict([status()]) == "waiting"
    assert trial.bad() is None
    clock.now += 1
    assert trial.verdict([status()]) == "healthy"


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        pytest.param(status(frames=0, busy=True), "waiting", id="first frame under way"),
        pytest.param(status(frames=5, busy=True), "waiting", id="next frame under way"),
        pytest.param(status(frames=6, busy=True), "healthy", id="a frame done"),
        pytest.param(status(frames=5), "healthy", id="an empty source"),
        pytest.param(status(state="finished", frames=5), "healthy", id="a source that ended"),
        pytest.param(status(state="starting", frames=6), "waiting", id="starting"),
        pytest.param(status(state="waiting", frames=6), "waiting", id="between two workers"),
        pytest.param(status(state="broken", frames=6), "waiting", id="broken"),
    ],
)
def test_each_changed_pipeline_must_work(
    make_trial: Callable[..., Trial], clock: Clock, seen: PipelineStatus, verdict: str
) -> None:
    trial = make_trial(frames={"new": 5})
    clock.now += 20
    assert trial.verdict([seen, status("other")]) == verdict


def test_what_was_not_changed_is_not_judged(make_trial: Callable[..., Trial], clock: Clock) -> None:
    trial = make_trial()
    clock.now += 20
    for _ in range(CRASHES):
        trial.died("unchanged", CRASH)
    assert trial.bad() is None
    assert trial.crashes == 0
    assert trial.verdict([status(), status("unchanged", state="broken")]) == "healthy"


def test_three_crashes_are_too_many_whichever_pipelines(make_trial: Callable[..., Trial]) -> None:
    trial = make_trial()
    for name in ("new", "other"):
        trial.died(name, CRASH)
    assert trial.bad() is None
    trial.died("new", CRASH)
    why = trial.bad()
    assert why is not None
    assert "3 times (the last one: new)" in why.what
    assert why.expected == "fewer than 3 within 600 s"
    assert why.got == "the worker died: killed by SIGSEGV; its last line"
    assert why.remedy == "look at it"


def test_crashes_before_a_restart_of_the_core_count(make_trial: Callable[..., Trial]) -> None:
    trial = make_trial(crashes_before=2)
    assert trial.bad() is None
    trial.died("new", CRASH)
    assert trial.crashes == 3
    assert trial.bad() is not None
    assert make_trial(crashes_before=3).bad() is not None, "the core ended before it could go back"


@pytest.mark.parametrize("death", [Death(error=CRASH.error, silent=True), Death(error=CRASH.error, permanent=True)])
def test_silence_and_what_no_other_try_can_help_are_enough_once(
    make_trial: Callable[..., Trial], death: Death
) -> None:
    trial = make_trial()
    trial.died("other", death)
    assert trial.bad() is death.error


def test_after_the_watch_nothing_is_taken_back_any_more(make_trial: Callable[..., Trial], clock: Clock) -> None:
    trial = make_trial()
    clock.now += 600
    assert trial.verdict([status(state="broken")]) == "over"
