"""Which state is sent next, and when all of them are."""

from __future__ import annotations

import threading

import pytest

from mli.delivery.sinks.mqtt_states import MAX_STATES, RetainedStates


def everything(_topic: str) -> bool:
    return True


def nothing(_topic: str) -> bool:
    return False


def take(states: RetainedStates) -> tuple[str, bytes] | None:
    """Send the next one and have it acknowledged."""
    state = states.next_due(everything)
    if state is None:
        return None
    assert states.send(state)
    states.settle(state, "taken")
    return state.topic, state.payload


def test_a_state_that_changes_while_it_is_sent_is_sent_once_more() -> None:
    states = RetainedStates()
    states.set("a", b"1")
    state = states.next_due(everything)
    assert state is not None
    assert states.send(state)
    states.set("a", b"2")
    states.settle(state, "taken")
    assert not states.wait(0.0, nothing)
    assert take(states) == ("a", b"2")
    assert states.wait(0.0, nothing)


def test_a_state_that_was_replaced_between_choosing_and_sending_is_not_sent() -> None:
    states = RetainedStates()
    states.set("a", b"1")
    state = states.next_due(everything)
    states.set("a", b"2")
    assert state is not None
    assert not states.send(state)


def test_all_are_due_again_on_a_new_connection_but_not_what_was_cleared() -> None:
    states = RetainedStates()
    for topic in ("a", "b", "c"):
        states.set(topic, b"1")
    states.set("a", None)
    assert [take(states), take(states), take(states), take(states)] == [("b", b"1"), ("c", b"1"), ("a", b""), None]
    states.restart()
    assert [take(states), take(states), take(states)] == [("b", b"1"), ("c", b"1"), None]


def test_waiting_ends_at_the_last_answer_and_does_not_begin_for_what_is_hopeless() -> None:
    states = RetainedStates()
    states.set("a", b"1")
    assert not states.wait(60.0, everything), "hopeless: no wait"
    done: list[bool] = []
    waiter = threading.Thread(target=lambda: done.append(states.wait(60.0, nothing)))
    waiter.start()
    take(states)
    waiter.join(30.0)
    assert done == [True]
    states.set("a", b"2")
    state = states.next_due(everything)
    assert state is not None
    states.send(state)
    states.settle(state, "refused")
    assert not states.wait(60.0, nothing), "refused: no wait"


def test_topics_that_nobody_can_publish_to_and_too_many_are_refused() -> None:
    states = RetainedStates()
    for topic in ("", "a/+", "#"):
        with pytest.raises(ValueError, match="is not a topic"):
            states.set(topic, b"1")
    for number in range(MAX_STATES):
        states.set(str(number), b"1")
    with pytest.raises(ValueError, match=f"number {MAX_STATES + 1}"):
        states.set("one more", b"1")
