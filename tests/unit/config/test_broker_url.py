"""A broker's address as people type it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mli.config.broker_url import parse_broker_url, redact_url
from mli.config.settings import MqttSettings, TlsSettings
from mli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("mqtt://localhost", MqttSettings("localhost", 1883)),
        ("mqtts://localhost", MqttSettings("localhost", 8883, tls=TlsSettings())),
        ("broker.example", MqttSettings("broker.example", 1883)),
        ("10.0.0.7:2883", MqttSettings("10.0.0.7", 2883)),
        ("mqtt://[::1]:2883/", MqttSettings("::1", 2883)),
        ("[fe80::1%25eth0]", MqttSettings("fe80::1%eth0", 1883)),
        ("::1", MqttSettings("::1", 1883)),
        ("mqtt://me@host", MqttSettings("host", username="me")),
        ("mqtt://m%40e:p%2Fw%3A%40@host:1", MqttSettings("host", 1, username="m@e", password="p/w:@")),
        ("mqtt://me:@host", MqttSettings("host", username="me", password="")),
    ],
)
def test_an_address_becomes_settings(text: str, settings: MqttSettings) -> None:
    assert parse_broker_url(text) == settings


@pytest.mark.parametrize(
    "text",
    [
        *("", "mqtt://", "mqtt://:1883", "http://host", "ws://host", "mqtt://host:0", "mqtt://host:70000"),
        *("mqtt://host:x", "mqtt://[::1", "mqtt://host/topic", "mqtt://host?x=1", "my host"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_broker_url(text)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        "mqtt://me:hush@host:99999",
        "http://me:hush@host",
        "mqtt://me:hush/more@host",
        "mqtt://me:hush#more@host",
        "mqtt://me:hush@more@host:x",
        "me:hush@host:x",
        "mqtt://me:hush@[::1",
    ],
)
def test_no_error_shows_the_password(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_broker_url(text)
    assert "hush" not in str(caught.value)
    assert "***" in str(caught.value)


def test_the_password_is_not_part_of_the_settings_text() -> None:
    assert "hush" not in repr(parse_broker_url("mqtt://me:hush@host"))
    assert redact_url("mqtts://me:hush@host:1") == "mqtts://me:***@host:1"
    assert redact_url("mqtt://me@host") == "mqtt://me@host"


def test_certificates_ask_for_tls(tmp_path: Path) -> None:
    paths = {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
    for path in paths.values():
        Path(path).touch()
    settings = parse_broker_url(
        "host", ca_path=paths["ca"], certificate_path=paths["cert"], private_key_path=paths["key"]
    )
    assert settings == MqttSettings("host", 8883, tls=TlsSettings(paths["ca"], paths["cert"], paths["key"]))
    with pytest.raises(UsageError, match=r"mqtt://host"):
        parse_broker_url("mqtt://host", ca_path=paths["ca"])
    with pytest.raises(UsageError, match="belong together"):
        parse_broker_url("mqtts://host", certificate_path=paths["cert"])
    with pytest.raises(UsageError, match="The CA is no file"):
        parse_broker_url("mqtts://host", ca_path=str(tmp_path / "absent"))


def test_the_password_comes_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hu sh\nsecond line\n")
    settings = parse_broker_url("host", username="me", password_file=str(secret))
    assert (settings.username, settings.password) == ("me", "hu sh")
    with pytest.raises(UsageError, match="two passwords") as caught:
        parse_broker_url("mqtt://me:x@host", password_file=str(secret))
    assert "once" in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        parse_broker_url("host", username="me", password_file=str(tmp_path / "absent"))
    secret.write_text("")
    with pytest.raises(UsageError, match="empty"):
        parse_broker_url("host", username="me", password_file=str(secret))
    secret.write_text("x")
    with pytest.raises(UsageError):
        parse_broker_url("host", password_file=str(secret))
