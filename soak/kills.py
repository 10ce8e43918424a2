"""The core killed at every file-system call of a deployment, and at random moments of all that it does."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from typing import Any

from tests.fixtures.core_process import CoreProcess
from tests.fixtures.mli_process import MLI, environment

from soak.account import Account, Broken, say
from soak.device import Archive, Device
from soak.place import Place
from soak.system_calls import TRACES, Point, calls_of, injected, threads_of

NOT_REACHED = "not reached"
SETTLE_EVERY = 10
"""So often a deployment is let through, and everything is looked at."""


class Survival:
    """A device that is killed again and again, and must be whole each time."""

    def __init__(self, place: Place, name: str, **options: Any) -> None:
        self.device = place.device(name, **options)
        self.boot_s = self.deployment_s = 1.0
        self.threads: list[int] = []
        self.start()
        self.now = self.device.make_archive()
        self.device.core.deploy_well(self.device.deployment(self.now))
        self.settle()

    @property
    def core(self) -> CoreProcess:
        return self.device.core

    def start(self) -> None:
        """Start the core; note how long that takes now, and its threads in the order of their start."""
        began = time.monotonic()
        self.device.start()
        self.boot_s = time.monotonic() - began
        self.threads = threads_of(self.device)

    def begin_anew(self) -> None:
        """A new process: its threads are numbered as those of any other that was just started."""
        self.device.kill()
        self.start()
        assert self.device.serving() == self.now.sha256
        self.core.wait(lambda: self.core.status()["broker"]["subscribed"], "the subscription")

    def thread_of(self, point: Point) -> int:
        """The kernel's number of its thread; of a new core where the one that runs has it no more."""
        if point.thread >= len(self.threads) or self.threads[point.thread] not in threads_of(self.device):
            self.begin_anew()
        return self.threads[point.thread]

    def deploy(self) -> None:
        """A deployment that nobody disturbs, to its very end."""
        self.now = self.device.make_archive()
        began = time.monotonic()
        self.core.deploy_well(self.device.deployment(self.now))
        self.device.check_leftovers()
        self.deployment_s = time.monotonic() - began

    def settle(self) -> None:
        """What was left is cleared by a deployment that goes well, and everything is whole."""
        self.deploy()
        assert self.device.serving() == self.now.sha256
        self.device.check_files()
        self.device.check_predictions()

    def send_new(self) -> tuple[Archive, int]:
        """A deployment that has everything to do."""
        archive = self.device.make_archive()
        return archive, self.core.send(self.device.deployment(archive))

    def rise_again(self, new: Archive | None) -> str:
        """Start the killed core: exactly the old or the new model serves.

        Returns:
            ``old`` or ``new``: what the files of the dead one said.
        """
        self.device.kill()
        allowed = {self.now.sha256: "old", **({} if new is None else {new.sha256: "new"})}
        pointed_at = self.device.pointed_at()
        assert pointed_at in allowed, f"the pointer names {pointed_at}"
        self.start()
        serving = self.device.serving()
        assert serving in allowed, f"{serving} serves"
        self.device.check_files()
        return allowed[pointed_at]

    def get_through(self, new: Archive, revision: int) -> None:
        """The broker still wants the deployment: the restarted core ends it well."""
        document = self.core.wait_for_state(revision, "healthy", "failed", "refused", "rolled_back")
        assert document["state"] == "healthy", document
        self.core.wait(lambda: self.device.serving() == new.sha256, "the new model serves")
        self.now = new


def kill_at_calls(place: Place, chance: random.Random, most: int | None) -> Account:
    """At each call of each thread, or at ``most`` of them."""
    account = Account()
    survival = Survival(place, "calls")
    calls = calls_of(survival.device, survival.deploy, survival.begin_anew, TRACES if most is None else 1)
    points = calls.points
    account.facts |= {"calls": len(points), "threads": len({point.thread for point in points})}
    account.facts |= {"by_name": dict(Counter(item.call for item in points))}
    account.facts |= {"calls_sometimes": calls.sometimes, "calls_of_born_threads": calls.born}
    chosen = points if most is None else sorted(chance.sample(points, min(most, len(points))), key=points.index)
    say(f"{len(points)} calls of a deployment, {calls.sometimes} and {calls.born} more that have no certain number")
    for number, point in enumerate(chosen):
        try:
            with account.round(f"killed at {point}"):
                outcome = _killed_at(survival, point)
                account.outcomes[outcome] += 1
                if outcome == NOT_REACHED:
                    account.facts.setdefault("not_reached", Counter())[f"{point.call} of thread {point.thread}"] += 1
                if number % SETTLE_EVERY == SETTLE_EVERY - 1:
                    survival.settle()
                    say(f"{number + 1} of {len(chosen)}: {account.outcomes}")
        except Broken:
            survival.device.kill()
            survival = Survival(place, f"calls-{number}")
    with account.whole("the end"):
        survival.settle()
        account.facts["predictions"] = survival.device.check_predictions()
        survival.core.stop()
    return account


def _killed_at(survival: Survival, point: Point) -> str:
    core, device = survival.core, survival.device
    with injected(device, survival.thread_of(point), point, "signal=KILL"):
        new, revision = survival.send_new()
        core.wait(lambda: not device.is_alive() or core.states(revision)[-1:] == ["healthy"], f"an end at {point}")
        # What follows a healthy deployment has its calls as well.
        threading.Event().wait(0.0 if not device.is_alive() else 0.2)
    if device.is_alive():
        survival.now = new
        return NOT_REACHED
    found = survival.rise_again(new)
    survival.get_through(new, revision)
    return f"killed, {found} model"


def kill_at_moments(place: Place, chance: random.Random, rounds: int) -> Account:
    """At random moments of deployments, boots, boots with a deployment that waits, and rollbacks, in turns."""
    account = Account()
    survival = Survival(place, "moments", interval="50ms")
    kinds = [_in_deployment, _in_boot, _in_boot_with_deployment, _in_rollback]
    for number in range(rounds):
        kind = kinds[number % len(kinds)]
        at = chance.random()
        try:
            with account.round(f"{kind.__name__} {number}, at {at:.3f} of it"):
                account.outcomes[f"{kind.__name__[1:].replace('_', ' ')}: {kind(survival, at)}"] += 1
                if number % SETTLE_EVERY == SETTLE_EVERY - 1:
                    survival.settle()
                    say(f"{number + 1} of {rounds}: {account.outcomes}")
        except Broken:
            survival.device.kill()
            survival = Survival(place, f"moments-{number}", interval="50ms")
    with account.whole("the end"):
        survival.settle()
        account.facts["predictions"] = survival.device.check_predictions()
        survival.core.stop()
    return account


AFTER = 1.3
"""Moments are chosen from so many times what a thing took last: some are after it."""


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _in_deployment(survival: Survival, at: float) -> str:
    new, revision = survival.send_new()
    _pause(at * AFTER * survival.deployment_s)
    found = survival.rise_again(new)
    survival.get_through(new, revision)
    return f"{found} model"


def _in_boot(survival: Survival, at: float) -> str:
    survival.device.kill()
    _start_and_kill(survival.device, at * AFTER * survival.boot_s)
    return f"{survival.rise_again(None)} model"


def _in_boot_with_deployment(survival: Survival, at: float) -> str:
    survival.device.kill()
    new, revision = survival.send_new()
    _start_and_kill(survival.device, at * AFTER * (survival.boot_s + survival.deployment_s))
    found = survival.rise_again(new)
    survival.get_through(new, revision)
    return f"{found} model"


def _in_rollback(survival: Survival, at: float) -> str:
    core, device = survival.core, survival.device
    bad = device.make_archive()
    revision = core.send(device.bad_deployment(bad))
    _pause(at * AFTER * 2 * survival.deployment_s)  # there and back again
    device.kill()
    pointed_at = {survival.now.sha256: "old", bad.sha256: "bad"}[device.pointed_at()]
    survival.start()
    document = core.wait_for_state(revision, "healthy", "failed", "refused", "rolled_back")
    assert document["state"] == "rolled_back", document
    core.wait(lambda: device.serving() == survival.now.sha256, "the old model serves again")
    device.check_files()
    return f"{pointed_at} model, taken back"


def _start_and_kill(device: Device, after_s: float) -> None:
    command = [*MLI, "core", "start", "--root", str(device.core.root)]
    with (device.folder / "stderr.txt").open("ab") as stderr:
        process = subprocess.Popen(
            command,
            env=environment(device.folder),
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        _pause(after_s)
        assert process.poll() is None, f"the core ended by itself: {process.returncode}"
    finally:
        process.kill()
        process.wait()
        device.note(process.pid)
