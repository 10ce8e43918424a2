"""When something is taken for not allowed, and when it is tried again."""

from __future__ import annotations

import logging

import pytest

from mli.delivery.sinks.mqtt_allowance import ENDS_IT, LONE_DROPS, RETRY_MAX_S, RETRY_MIN_S, Allowance, Request

READ = Request("subscription to a", "let it read a", "nothing comes")
WRITE = Request("retained state b", "let it write b", "nobody sees it")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def allowance(clock: Clock) -> Allowance:
    return Allowance(clock)


def leave_out(allowance: Allowance, request: Request) -> None:
    allowance.dropped(request, alone=False)
    for _ in range(LONE_DROPS):
        allowance.dropped(request, alone=True)


def test_a_suspect_is_tried_alone_and_left_out_only_when_that_ended_connection_after_connection(
    allowance: Allowance,
) -> None:
    assert not allowance.must_be_alone(READ.name)
    for _ in range(5):
        allowance.dropped(READ, alone=False)
    assert allowance.must_be_alone(READ.name)
    for _ in range(LONE_DROPS):
        assert allowance.may_ask(READ.name)
        allowance.dropped(READ, alone=True)
    assert not allowance.may_ask(READ.name)
    assert allowance.left_out == (f"{READ.name}: {ENDS_IT}",)


def test_an_answer_clears_of_suspicion(allowance: Allowance) -> None:
    for _ in range(2 * LONE_DROPS):
        allowance.dropped(READ, alone=True)
        assert allowance.may_ask(READ.name)
        allowance.granted(READ)
        assert not allowance.must_be_alone(READ.name)


def test_a_network_that_fails_in_between_is_not_taken_for_a_broker_that_does_not_allow_it(
    allowance: Allowance,
) -> None:
    for _ in range(2 * LONE_DROPS):
        allowance.dropped(READ, alone=True)
        allowance.unreachable()
        assert allowance.may_ask(READ.name)
        assert allowance.must_be_alone(READ.name)


def test_after_one_suspicion_all_that_was_never_answered_is_tried_alone(allowance: Allowance) -> None:
    allowance.granted(WRITE)
    allowance.dropped(READ, alone=False)
    assert not allowance.must_be_alone(WRITE.name)
    assert allowance.must_be_alone("retained state c")


def test_what_costs_the_connection_is_tried_again_after_longer_and_longer(
    allowance: Allowance, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    leave_out(allowance, READ)
    allowance.new_connection()
    pause_s = RETRY_MIN_S
    for _ in range(8):
        clock.now_s += pause_s - 1
        assert not allowance.may_ask(READ.name)
        clock.now_s += 1
        assert allowance.may_ask(READ.name)
        assert allowance.must_be_alone(READ.name)
        allowance.dropped(READ, alone=True)
        pause_s = min(RETRY_MAX_S, pause_s * 2)
    assert pause_s == RETRY_MAX_S
    (told,) = caplog.messages
    assert READ.remedy in told
    assert READ.without in told


def test_what_is_refused_with_an_answer_is_tried_at_each_connection_and_beside_the_rest(
    allowance: Allowance, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    allowance.denied(WRITE, "not authorized (reason 135)")
    assert not allowance.may_ask(WRITE.name)
    assert not allowance.must_be_alone(WRITE.name)
    allowance.new_connection()
    assert allowance.may_ask(WRITE.name)
    allowance.denied(WRITE, "not authorized (reason 135)")
    assert len(caplog.messages) == 1
    clock.now_s += 2 * RETRY_MIN_S
    assert allowance.may_ask(WRITE.name)
    with caplog.at_level(logging.INFO):
        allowance.granted(WRITE)
    assert allowance.left_out == ()
    assert caplog.messages[-1] == f"The broker allows it now: {WRITE.name}."
