"""Fixtures for all tests: real brokers."""

import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from mli.config import redaction
from tests.fixtures.brokers import amqtt_broker, certificates, make_mosquitto, recording_broker
from tests.fixtures.control_groups import no_control_groups_left
from tests.fixtures.core_process import witnessed_broker
from tests.fixtures.hostile_http import make_proxy, make_server
from tests.fixtures.moto_server import moto, moto_environment, moto_process
from tests.fixtures.stack_rig import stack_rig
from tests.fixtures.stubbed_aws import stubbed_aws
from tests.fixtures.swift_server import own_swift, swift

__all__ = [
    "amqtt_broker",
    "certificates",
    "make_mosquitto",
    "make_proxy",
    "make_server",
    "moto",
    "moto_environment",
    "moto_process",
    "no_control_groups_left",
    "own_swift",
    "recording_broker",
    "stack_rig",
    "stubbed_aws",
    "swift",
    "witnessed_broker",
]

# How long an example takes says something of the machine, and nothing of what is tested.
# The same examples each time: a change is judged by what it changes. --hypothesis-profile=search looks for others.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("mli", settings.get_profile("search"), derandomize=True)
settings.load_profile("mli")

# A job in the background ignores Ctrl-C, and so would every process that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logged may hold broken characters, on purpose; reports cross to another process as text."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test hides in this process is an ordinary word in another."""
    monkeypatch.setattr(redaction, "_REDACTOR", redaction.Redactor())
