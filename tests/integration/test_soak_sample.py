"""A few rounds of each proof of `make soak`, at places that are others each time."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from soak.account import Account
from soak.faults import fail_at_calls
from soak.fleet import roll_out
from soak.full_disk import fill_disk
from soak.kills import kill_at_calls, kill_at_moments
from soak.place import Place, open_place
from soak.power import cut_power
from soak.swaps import swap_often


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("soak")) as place:
        yield place


@pytest.fixture
def chance() -> random.Random:
    """The seed is in the report of a test that fails."""
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)  # noqa: T201 - shown when the test fails
    return random.Random(seed)


def check(account: Account, rounds: int) -> None:
    assert not account.failures
    assert account.outcomes.total() == rounds, account


def test_a_core_killed_at_any_call_of_a_deployment_is_whole(place: Place, chance: random.Random) -> None:
    account = kill_at_calls(place, chance, 3)
    check(account, 3)
    assert account.facts["calls"] > 100
    assert sum(number for name, number in account.outcomes.items() if name.startswith("killed")) >= 1, account


def test_a_core_killed_at_any_moment_is_whole(place: Place, chance: random.Random) -> None:
    check(kill_at_moments(place, chance, 4), 4)


def test_a_disk_that_fails_at_any_call_of_a_deployment_breaks_nothing(place: Place, chance: random.Random) -> None:
    check(fail_at_calls(place, chance, 2), 2)


def test_a_disk_without_a_free_byte_delays_a_deployment_and_loses_nothing(
    place: Place, chance: random.Random
) -> None:
    check(fill_disk(place, chance, 1, full_s=1.0), 1)


def test_after_a_power_cut_nothing_contradicts_what_was_acknowledged(place: Place, chance: random.Random) -> None:
    check(cut_power(place, chance, 1), 1)


def test_swaps_lose_no_frame_and_leave_nothing(place: Place) -> None:
    account = swap_often(place, 3)
    check(account, 4)
    assert account.facts["predictions"] > 20


def test_many_things_take_a_deployment(place: Place) -> None:
    account = roll_out(place, 40, 1, roll_outs=1)
    check(account, 41)
    assert account.facts["roll-out 1"]["heard"] == 41
