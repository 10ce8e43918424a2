"""The doctor at model stores: what it asks, what they answer, and what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.hostile_http import HostileServer, Talk
from tests.fixtures.swift_server import REGION, SwiftServer

from mli.config.settings import DeploymentSettings, DeviceSettings, ModelSource, StoreSettings
from mli.core.doctor.clock import check_clock
from mli.core.doctor.models import check_store
from mli.core.doctor.patient import Patient
from mli.core.root import Root


def patient_of(tmp_path: Path, store: StoreSettings, uri: str, **changes: Any) -> Patient:
    deployment = DeploymentSettings({"main": ModelSource(uri, **changes)}, ())
    return Patient(Root(tmp_path), DeviceSettings("belt-7", str(tmp_path), store=store), deployment=deployment)


def test_a_model_that_can_be_had_is_shown_with_region_and_credentials(tmp_path: Path, swift: SwiftServer) -> None:
    verdict = check_store(patient_of(tmp_path, swift.settings(), swift.put("m.zip", b"x" * 2**20)))
    assert verdict.state == "ok"
    assert verdict.detail.startswith("main: s3://models/m.zip, 1.0 MB, region")
    assert "keys of the device's settings" in verdict.detail


@pytest.mark.parametrize(
    ("changes", "key", "told", "remedy"),
    [
        ({"secret_access_key": "wrong"}, "m.zip", "SignatureDoesNotMatch", "secret access key"),
        (
            {"access_key_id": "test:guest", "secret_access_key": "guest-secret"},
            "m.zip",
            "AccessDenied",
            "s3:GetObject",
        ),
        ({}, "none.zip", "none.zip", ""),
    ],
)
def test_what_a_store_refuses(
    tmp_path: Path, swift: SwiftServer, changes: dict[str, str], key: str, told: str, remedy: str
) -> None:
    swift.put("m.zip", b"x")
    verdict = check_store(patient_of(tmp_path, swift.settings(**changes), f"s3://models/{key}"))
    assert verdict.state == "fail"
    assert told in verdict.detail
    assert remedy in (verdict.remedy or "")
    assert "wrong" not in verdict.detail


def test_a_store_that_does_not_say_its_buckets_region(tmp_path: Path) -> None:
    """Then the region cannot be followed: the one that was asked is named, and where to set the right one."""
    body = b"<Error><Code>PermanentRedirect</Code><Message>Use another endpoint.</Message></Error>"

    def elsewhere(talk: Talk) -> None:
        talk.answer(301, body)

    server = HostileServer(elsewhere)
    try:
        keys = StoreSettings(server.url, access_key_id="id", secret_access_key="key", credentials="keys")
        verdict = check_store(patient_of(tmp_path, keys, "s3://bucket/m.zip", region="us-west-2"))
    finally:
        server.stop()
    assert verdict.state == "fail"
    assert "another region than us-west-2" in verdict.detail
    assert "store.region" in (verdict.remedy or "")


def test_a_store_that_is_away(tmp_path: Path) -> None:
    verdict = check_store(patient_of(tmp_path, StoreSettings("http://127.0.0.1:9", region=REGION), "s3://b/m.zip"))
    assert verdict.state == "fail"
    assert verdict.remedy


@pytest.mark.parametrize(("off", "state"), [(timedelta(), "ok"), (timedelta(minutes=20), "fail")])
def test_the_clock_is_compared_with_the_stores(
    tmp_path: Path, swift: SwiftServer, off: timedelta, state: str
) -> None:
    patient = patient_of(tmp_path, swift.settings(), "s3://models/m.zip")
    verdict = check_clock(replace(patient, now=lambda: (datetime.now(UTC) + off).timestamp()))
    assert verdict.state == state, verdict
    if state == "fail":
        assert "ahead of 127.0.0.1" in verdict.detail
        assert "timedatectl" in (verdict.remedy or "")
