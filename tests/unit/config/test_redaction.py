"""No secret is left in a text, in whatever form it stands there; what is no secret stays readable."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest

from mli.config.redaction import MAX_PASSING, Redactor, redact, secrets_of
from mli.config.settings import DeviceSettings, MqttSettings, StoreSettings

SECRET = 'pä/ss w%rd+"7\\&='
SIGNATURE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
KEY = base64.b64encode(bytes(range(96))).decode()


def knowing(*secrets: str) -> Redactor:
    redactor = Redactor()
    redactor.hide(secrets)
    return redactor


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        repr(SECRET)[1:-1],
        ascii(SECRET)[1:-1],
    ],
)
def test_a_known_secret_is_found_in_every_form(form: str) -> None:
    assert knowing(SECRET).redact(f"cannot log in with {form} today") == "cannot log in with *** today"


def test_a_known_secret_that_was_cut_off_is_found() -> None:
    token = "IQoJb3JpZ2luX2VjEMf" * 20
    assert knowing(token).redact(f"expired: {token[:60]}… (refused)") == "expired: *** (refused)"


def test_lines_of_a_known_secret_are_found_one_by_one() -> None:
    shown = knowing(f"-----BEGIN CERTIFICATE-----\n{KEY[:64]}\n{KEY[64:]}\n").redact(f"line 2 is {KEY[64:]}.")
    assert shown == "line 2 is ***."


def test_a_very_short_secret_takes_no_words_apart() -> None:
    assert knowing("on").redact("connection on port 1883 with on") == "connection *** port 1883 with ***"


def test_the_longest_of_overlapping_secrets_is_taken_out_whole() -> None:
    assert knowing("sesame", "sesame-street").redact("say sesame-street") == "say ***"


def test_passing_credentials_are_bounded_and_lasting_ones_stay() -> None:
    redactor = knowing("lasting-secret")
    for number in range(MAX_PASSING + 1):
        redactor.hide([f"passing-secret-number-{number:03d}-x"], passing=True)
    assert redactor.redact("lasting-secret") == "***"
    assert redactor.redact(f"passing-secret-number-{MAX_PASSING:03d}-x") == "***"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt://me:hunter2@broker:1883 is away", "mqtt://me:***@broker:1883 is away"),
        ("mqtt://me:a@b:c@broker", "mqtt://me:***@broker"),
        ("http://u:12345@proxy:3128", "http://u:***@proxy:3128"),
        ("https://ghp_0123456789abcdefABCDEF@host/x", "https://***@host/x"),
        (
            f"GET https://b.s3.amazonaws.com/m.zip?X-Amz-Signature={SIGNATURE}&x=1 403",
            "GET https://b.s3.amazonaws.com/m.zip?*** 403",
        ),
        (
            f"PUT /b/m.zip?partNumber=1&X-Amz-Security-Token=abc%2F&X-Amz-Signature={SIGNATURE} 403",
            "PUT /b/m.zip?partNumber=1&X-Amz-Security-Token=***&X-Amz-Signature=*** 403",
        ),
        (f"next=%2Fb%3FX-Amz-Signature%3D{SIGNATURE}", "next=%2Fb%3FX-Amz-Signature%3D***"),
        (
            "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261125/eu/s3/x, Signature=ab\nnext",
            "Authorization: ***\nnext",
        ),
        (
            f"AWS4-HMAC-SHA256 Credential=x/y, SignedHeaders=host, Signature={SIGNATURE}",
            "AWS4-HMAC-SHA256 Credential=***, SignedHeaders=host, Signature=***",
        ),
        ("{'Authorization': 'Basic bWU6aHVudGVyMg==', 'Host': 'x'}", "{'Authorization': ***, 'Host': 'x'}"),
        ('{"authorization": "Bearer abcdef123456"}', '{"authorization": ***}'),
        ("sent Basic bWU6aHVudGVyMg== to it", "sent Basic *** to it"),
        ("X-Auth-Token: AUTH_tk0123", "X-Auth-Token: ***"),
        ("the key AKIAIOSFODNN7EXAMPLE is unknown", "the key AKIA*** is unknown"),
        ('{"SecretAccessKey" : "abc/def", "Token": "x"}', '{"SecretAccessKey" : ***, "Token": ***}'),
        (
            'AwsCredential { secret_key: "abc", token: Some("t") }',
            "AwsCredential { secret_key: ***, token: Some(***) }",
        ),
        ("aws_secret_access_key=abc/def+x", "aws_secret_access_key=***"),
        ("MqttSettings(password='hunter2', port=1)", "MqttSettings(password=***, port=1)"),
        ("mqtt:\n  password: hunter2\n  port: 1", "mqtt:\n  password: ***\n  port: 1"),
        (
            f"-----BEGIN EC PRIVATE KEY-----\n{KEY}\n-----END EC PRIVATE KEY-----\nnext",
            "-----BEGIN EC PRIVATE KEY----- ***\nnext",
        ),
        (f"-----BEGIN PRIVATE KEY-----\\n{KEY}", "-----BEGIN PRIVATE KEY----- ***"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "jwt ***"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://store.example:8443/models@v2/m.zip: 404",
        "mqtt://me@broker.example:1883 connected",
        "device.yaml:3: mqtt.password: the secret 'mqtt' cannot be read from /srv/secrets/mqtt: No such file",
        "password: secret:mqtt",
        'the setting {"password": "secret:mqtt"}',
        "the broker refused the connection: not authorized (reason 135)",
        "Basic authentication is not offered",
        "model sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "private_key: /greengrass/certs/thing.private.key",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_secrets_of_a_device_are_its_passwords_keys_and_tokens() -> None:
    device = DeviceSettings(
        thing="t",
        root="/srv/mli",
        mqtt=MqttSettings("broker", username="me", password="hunter2"),
        store=StoreSettings(access_key_id="id", secret_access_key="key", proxy="http://u:p%40ss@proxy:3128"),
    )
    found = secrets_of(device, {"AWS_SESSION_TOKEN": "token", "AWS_REGION": "eu-central-1"})
    assert sorted(found) == ["hunter2", "key", "p@ss", "token"]


@pytest.mark.parametrize(
    "piece", ["a", "a.", "http://", "a://b:", "x?token=", "-eyJ", " \n", "password", "-----BEGIN PRIVATE KEY-----"]
)
def test_a_hostile_text_costs_little(piece: str) -> None:
    """A pattern that is quadratic in it would not come to its end within the time that a test has."""
    redact(piece * (200_000 // len(piece)))
