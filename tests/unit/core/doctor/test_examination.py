"""Checks run side by side; none of them can hang the doctor, and none can end it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mli.core.doctor.checks import CHECKS
from mli.core.doctor.examination import examine
from mli.core.doctor.finding import Check, Verdict, fail, ok, skipped, warn
from mli.core.doctor.patient import Patient
from mli.core.root import Root
from mli.errors import StopError


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(Root(tmp_path))


def giving(verdict: Verdict) -> Callable[[Patient], Verdict]:
    return lambda _: verdict


def test_findings_come_in_the_tables_order(patient: Patient) -> None:
    second_has_run = threading.Event()

    def first(_: Patient) -> Verdict:
        assert second_has_run.wait(30), "the checks do not run side by side"
        return ok("first")

    def second(_: Patient) -> Verdict:
        second_has_run.set()
        return ok("second")

    found = examine((Check("a", first, limit_s=60), Check("b", second)), patient)
    assert [(item.name, item.detail) for item in found] == [("a", "first"), ("b", "second")]


def test_a_check_that_hangs_is_given_up(patient: Patient) -> None:
    never = threading.Event()

    def hangs(_: Patient) -> Verdict:
        never.wait()
        return ok("never")

    (found,) = examine((Check("hangs", hangs, limit_s=0.05),), patient)
    assert found.state == "fail"
    assert found.detail == "no answer within 0.05 s"
    assert found.remedy
    never.set()


def test_what_needs_a_failed_check_is_skipped_all_the_way_down(patient: Patient) -> None:
    checks = (
        Check("name", giving(fail("no such name", "look"))),
        Check("port", giving(ok("open")), needs=("name",)),
        Check("login", giving(ok("in")), needs=("port",)),
    )
    found = list(examine(checks, patient))
    assert [(item.state, item.detail) for item in found[1:]] == [
        ("skipped", "needs: name"),
        ("skipped", "needs: port"),
    ]


@pytest.mark.parametrize("verdict", [warn("odd", "look"), skipped("nothing there"), ok("good")])
def test_what_needs_a_check_that_found_nothing_bad_is_run(patient: Patient, verdict: Verdict) -> None:
    found = list(examine((Check("a", giving(verdict)), Check("b", giving(ok("good")), needs=("a",))), patient))
    assert found[1].state == "ok"


def test_an_error_of_mli_is_a_failure_with_its_cause_and_remedy(patient: Patient) -> None:
    def stops(_: Patient) -> Verdict:
        raise StopError("the key is damaged", where="/k.pem", got="other text", remedy="copy it again")

    (found,) = examine((Check("key", stops),), patient)
    assert (found.state, found.remedy) == ("fail", "copy it again")
    assert found.detail == "/k.pem: the key is damaged; found: other text"


def test_a_check_that_breaks_is_a_failure_too(patient: Patient) -> None:
    def breaks(_: Patient) -> Verdict:
        raise ZeroDivisionError("by zero")

    (found,) = examine((Check("broken", breaks),), patient)
    assert found.state == "fail"
    assert "ZeroDivisionError: by zero" in found.detail


def test_the_table_names_each_check_once_and_needs_only_earlier_ones() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for index, check in enumerate(CHECKS):
        assert set(check.needs) <= set(names[:index]), check.name
