"""Fixtures for all tests: real brokers."""

from tests.fixtures.brokers import amqtt_broker, certificates, make_mosquitto, recording_broker

__all__ = ["amqtt_broker", "certificates", "make_mosquitto", "recording_broker"]
