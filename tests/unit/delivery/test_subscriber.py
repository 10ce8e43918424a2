"""What a subscriber makes of messages: parsing, identity, and the account of sequences."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mli.delivery.gap_check import Sequences
from mli.delivery.received import Seen
from mli.delivery.subscriber import (
    Account,
    Drops,
    GapCheck,
    Identity,
    Predictions,
    Received,
    Unreadable,
    identify,
    parse_payload,
)

TOPIC = "mli/predictions/belt"


def compact(sequence: int, epoch: str = "e1", pipeline: str = "main", suffix: str = "") -> Received:
    told = {"id": f"{epoch}-{pipeline}-{sequence}{suffix}", "sequence": str(sequence)}
    return Received(TOPIC, b'[{"confidence": "0.5", "prediction": "can"}]', told, 0.0)


def announcement(first: int, last: int, count: int | None = None, epoch: str = "e1") -> Received:
    told = {"pipeline": "main", "from": first, "to": last, "count": count or last - first + 1, "reason": "full"}
    told_id = f"{epoch}-main-{first}-dropped-1"
    return Received(f"{TOPIC}/dropped", json.dumps({"dropped": told}).encode(), {"id": told_id}, 0.0)


def fed(*received: Received) -> GapCheck:
    check = GapCheck()
    for one in received:
        check.feed(one)
    return check


@pytest.mark.parametrize(
    ("payload", "parsed"),
    [
        (
            '[{"confidence": "0.21719395", "prediction": "n03983396 pop bottle, soda bottle"}]',
            Predictions((Seen("n03983396 pop bottle, soda bottle", 0.21719395),)),
        ),
        (
            '[{"confidence": "0.5", "prediction": "a", "image_name": "x.jpg"},'
            ' {"confidence": "?", "prediction": "b"}]',
            Predictions((Seen("a", 0.5), Seen("b", None)), "x.jpg"),
        ),
        ("[]", Predictions(())),
        (
            '{"schema": "s", "image_name": "x.jpg",'
            ' "predictions": [{"label": "a", "class_id": 0, "confidence": 0.5}]}',
            Predictions((Seen("a", 0.5),), "x.jpg"),
        ),
        (
            '{"rule": "divert", "label": "a", "confidence": 0.5, "image_name": "x.jpg"}',
            Predictions((Seen("a", 0.5),), "x.jpg", "divert"),
        ),
        (
            '{"dropped": {"pipeline": "main", "from": 3, "to": 9, "count": 5, "reason": "full"}}',
            Drops("main", 3, 9, 5, "full"),
        ),
    ],
)
def test_each_payload_of_ours_is_read(payload: str, parsed: Predictions | Drops) -> None:
    assert parse_payload(payload.encode()) == parsed


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"\xff\xfe", b"7", b"null", b"{}", b'"x"', b"[1]", b"[[]]", b"[" * 100_000),
        *(b'[{"confidence": null, "prediction": "a"}]', b'[{"prediction": "a"}]'),
        *(b'{"dropped": 5}', b'{"dropped": {"from": 9, "to": 3}}', b'{"dropped": {"from": 1e999, "to": 3}}'),
        b'{"predictions": 5}',
        b'{"predictions": [{"label": 5, "confidence": 1}]}',
    ],
)
def test_anything_else_is_unreadable_and_says_why(payload: bytes) -> None:
    parsed = parse_payload(payload)
    assert isinstance(parsed, Unreadable)
    assert parsed.reason


@given(
    st.binary() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_no_payload_breaks_the_reader(payload: bytes) -> None:
    parse_payload(payload)
    GapCheck().feed(Received(TOPIC, payload, {}, 0.0))


@pytest.mark.parametrize(
    ("told_id", "sequence", "identity"),
    [
        ("e1-main-7", "7", Identity("e1", "main", 7)),
        ("e1-camera-5-left-7", "7", Identity("e1", "camera-5-left", 7)),
        ("e1-main-7-divert-bottles", "7", Identity("e1", "main", 7, rule=True)),
        ("e1-main-7", "8", None),
        ("nonsense", "7", None),
        ("e1-main-7", "seven", None),
    ],
)
def test_a_message_is_known_by_its_user_properties(told_id: str, sequence: str, identity: Identity | None) -> None:
    assert identify(Received(TOPIC, b"[]", {"id": told_id, "sequence": sequence}, 0.0)) == identity


def test_a_message_is_known_by_its_full_payload_where_there_are_no_properties() -> None:
    body = {"id": "e1-main-7", "sequence": 7, "predictions": []}
    assert identify(Received(TOPIC, json.dumps(body).encode(), {}, 0.0)) == Identity("e1", "main", 7)


def test_an_unbroken_stream_that_is_joined_late_misses_nothing() -> None:
    assert fed(*map(compact, range(40, 60))).total() == Account(received=20)


def test_a_gap_is_missing_until_it_is_filled() -> None:
    check = fed(compact(1), compact(5))
    assert check.total() == Account(received=2, missing=3)
    assert check.streams()[f"{TOPIC} main"].gaps == ((2, 4),)
    check.feed(compact(3))
    assert check.streams()[f"{TOPIC} main"] == Account(received=3, missing=2, late=1, gaps=((2, 2), (4, 4)))


def test_the_same_id_again_is_a_duplicate() -> None:
    assert fed(compact(1), compact(2), compact(1), compact(2)).total() == Account(received=2, duplicates=2)


@pytest.mark.parametrize("before", [True, False])
def test_an_announcement_explains_a_gap_before_and_after_it_shows(before: bool) -> None:
    told = announcement(2, 4)
    messages = [compact(1), told, compact(6)] if before else [compact(1), compact(6), told]
    check = fed(*messages)
    assert check.total() == Account(received=2, missing=1, declared=3)
    assert check.streams()[f"{TOPIC} main"].gaps == ((5, 5),)


def test_a_merged_announcement_explains_no_more_than_it_counts() -> None:
    # Of 2-9 the device dropped 3; it says nothing of the other 5, of which one came.
    assert fed(compact(1), compact(5), compact(10), announcement(2, 9, count=3)).total() == Account(
        received=3, missing=4, declared=3
    )


def test_a_new_epoch_is_a_restart_not_a_gap() -> None:
    check = fed(compact(7), compact(8), compact(1, "e2"), compact(2, "e2"), compact(9))
    assert check.total() == Account(received=5, restarts=1)


def test_an_announcement_of_the_old_epoch_does_not_explain_the_new_ones_gap() -> None:
    check = fed(compact(1), compact(1, "e2"), compact(5, "e2"), announcement(2, 4, epoch="e1"))
    assert check.total().missing == 3


def test_pipelines_and_topics_are_streams_of_their_own() -> None:
    other = Received("elsewhere", b"[]", {"id": "e1-main-50", "sequence": "50"}, 0.0)
    check = fed(compact(1), compact(30, pipeline="side"), other, compact(2), compact(31, pipeline="side"))
    assert check.total() == Account(received=5)
    assert len(check.streams()) == 3


def test_rules_messages_and_retained_ones_are_not_part_of_the_account() -> None:
    rule = Received(TOPIC, b'{"rule": "r", "label": "a", "confidence": 1}', {}, 0.0)
    retained = Received(TOPIC, b"[]", {"id": "e1-main-1", "sequence": "1"}, 0.0, retained=True)
    assert fed(compact(9, suffix="-divert"), rule, retained).total() == Account()


def test_a_message_without_an_id_is_unchecked() -> None:
    assert fed(Received(TOPIC, b"[]", {}, 0.0)).total() == Account(unchecked=1)


def test_each_change_is_found_at_once() -> None:
    check = GapCheck()
    stream = [compact(1), compact(4), compact(3), compact(3), announcement(2, 2), compact(1, "e2"), compact(5)]
    findings = [check.feed(one) for one in stream]
    told = [None if found is None else (found.kind, found.first, found.last) for found in findings]
    assert told == [
        None,
        ("gap", 2, 3),
        ("late", 3, 3),
        ("duplicate", 3, 3),
        ("declared", 2, 2),
        ("restart", 1, 1),
        None,
    ]


@given(st.lists(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60))
def test_ranges_hold_what_a_set_would(numbers: list[int], first: int, last: int) -> None:
    ranges = Sequences()
    for number in numbers:
        ranges.add(number, number)
    assert [n for n in range(61) if n in ranges] == sorted(set(numbers))
    inside = {n for a, b in ranges.gaps(first, last) for n in range(a, b + 1)}
    assert inside == set(range(first, last + 1)) - set(numbers)
    assert all(b + 1 < c for (_, b), (c, _) in zip(list(ranges), list(ranges)[1:], strict=False))


def test_any_order_with_repeats_ends_in_the_same_account() -> None:
    chooser = random.Random(7)
    sequences = [n for n in range(1, 500) if n % 50] + list(range(100, 120))
    chooser.shuffle(sequences)
    # The first fixes where the account begins, so 1 comes first.
    account = fed(compact(1), *map(compact, sequences)).total()
    # 100 is in the second range; 50, 150 … 450 are in none.
    assert (account.missing, account.received) == (8, 491)
    assert account.duplicates == len(sequences) + 1 - 491
