"""The disk full or broken at each call of a deployment that could notice, and a small disk that is really full."""

from __future__ import annotations

import random
from collections import Counter
from itertools import product

from soak.account import Account, Broken, say
from soak.kills import SETTLE_EVERY, Survival
from soak.place import Place
from soak.system_calls import FAILING, TRACES, Point, calls_of, injected

ERRORS = ("ENOSPC", "EIO")


def fail_at_calls(place: Place, chance: random.Random, most: int | None) -> Account:
    """Each call of each thread with each error, or ``most`` of these."""
    account = Account()
    survival = Survival(place, "faults")
    points = calls_of(survival.device, survival.deploy, survival.begin_anew, TRACES if most is None else 1).points
    points = [point for point in points if point.call in FAILING and (point.call != "openat" or point.creates)]
    cases = list(product(points, ERRORS))
    if most is not None:
        cases = sorted(chance.sample(cases, min(most, len(cases))), key=cases.index)
    account.facts |= {"calls": len(points), "by_name": dict(Counter(point.call for point in points))}
    say(f"{len(points)} calls of a deployment that can fail")
    for number, (point, error) in enumerate(cases):
        try:
            with account.round(f"{error} at {point}"):
                account.outcomes[_failed_at(survival, point, error, account)] += 1
                if number % SETTLE_EVERY == SETTLE_EVERY - 1:
                    survival.settle()
                    say(f"{number + 1} of {len(cases)}: {account.outcomes}")
        except Broken:
            survival.device.kill()
            survival = Survival(place, f"faults-{number}")
    with account.whole("the end"):
        survival.settle()
        survival.core.stop()
    return account


def _failed_at(survival: Survival, point: Point, error: str, account: Account) -> str:
    core, device = survival.core, survival.device
    final = {"healthy", "failed", "refused", "rolled_back"}
    with injected(device, survival.thread_of(point), point, f"error={error}"):
        new, revision = survival.send_new()
        core.wait(lambda: not device.is_alive() or bool(final & set(core.states(revision))), f"an end at {point}")
    state = next(iter(core.states(revision)[-1:]), "nothing")
    outcome = f"goes on, {state}"
    if not device.is_alive():
        words = device.last_words()
        outcome = f"ended with an error, {state}"
        account.facts.setdefault("ends", []).append(f"{error} at {point}: {words}")
        assert "Traceback" not in words, words
        survival.rise_again(new)
    serving = device.serving()
    assert serving in (survival.now.sha256, new.sha256), f"{serving} serves"
    device.check_files()
    if core.states(revision)[-1:] == ["healthy"]:
        survival.get_through(new, revision)
    elif state == "rolled_back":  # it stays out; another one must get in
        survival.settle()
    else:
        survival.get_through(new, core.send(device.deployment(new)))
    return outcome
