"""Runs checks side by side, each with a bound on its time, and tells what they found in the table's order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mli.core.doctor.finding import Check, Finding, Verdict, fail, of_error, skipped
from mli.errors import MliError

if TYPE_CHECKING:
    from mli.core.doctor.patient import Patient

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """A check and, once it has ended, its verdict."""

    check: Check
    needs: tuple[_Running, ...]
    done: threading.Event = field(default_factory=threading.Event)
    verdict: Verdict | None = None
    blocked: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, patient: Patient) -> None:
        # Daemons: a name that is being looked up, or a frozen disk, can be neither interrupted nor waited for.
        threading.Thread(target=self._run, args=(patient,), name=f"check {self.check.name}", daemon=True).start()

    def _run(self, patient: Patient) -> None:
        missing = next((item.check.name for item in self.needs if _is_bad(item)), None)
        if missing is not None:
            self.blocked = True
            self._end(skipped(f"needs: {missing}"))
            return
        # The check itself runs beside its watch, which so can give it up.
        threading.Thread(target=self._examine, args=(patient,), name=self.check.name, daemon=True).start()
        if not self.done.wait(self.check.limit_s):
            self._end(
                fail(
                    f"no answer within {self.check.limit_s:g} s",
                    "what is asked here hangs: look at the network, or at the disk, that it needs",
                )
            )

    def _examine(self, patient: Patient) -> None:
        try:
            verdict = self.check.run(patient)
        except MliError as error:
            verdict = of_error(error, "see what is said there")
        except Exception as error:  # the check's edge: what goes wrong with it is a finding too
            log.debug("the check %s failed", self.check.name, exc_info=error)
            verdict = fail(
                f"this could not be checked: {type(error).__name__}: {error}",
                "report this together with `mli --version`",
            )
        self._end(verdict)

    def _end(self, verdict: Verdict) -> None:
        with self.lock:  # the watch and the check may end at the same moment
            if self.verdict is None:
                self.verdict = verdict
        self.done.set()


def _is_bad(item: _Running) -> bool:
    item.done.wait()
    return item.blocked or item.verdict is None or item.verdict.state == "fail"


def examine(checks: Sequence[Check], patient: Patient) -> Iterator[Finding]:
    """Run the checks; yields a finding for each, in their order, as soon as it and all before it are there.

    A check may only need ones that stand before it.
    """
    running: dict[str, _Running] = {}
    for check in checks:
        running[check.name] = _Running(check, tuple(running[name] for name in check.needs))
    for item in running.values():
        item.start(patient)
    for item in running.values():
        item.done.wait()
        assert item.verdict is not None
        yield Finding(item.check.name, item.verdict.state, item.verdict.detail, item.verdict.remedy)
