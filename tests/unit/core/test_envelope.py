"""Signed deployments: what passes, and that nothing else does."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mli.config import schema
from mli.config.settings import TrustAnchor
from mli.core.envelope import (
    CANCEL,
    ENVELOPE,
    MAX_MESSAGE_BYTES,
    MAX_REVISION,
    Opened,
    key_id_of,
    load_private_key,
    open_message,
    seal,
    seal_cancel,
    signed_bytes,
)
from mli.errors import RefusedError, UsageError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
EXPIRES = 1_796_083_200  # 2026-12-01T00:00:00Z
NOW = EXPIRES - 3600.0
THING = "gg_mli_accel"
PAYLOAD = b"revision: 7\nmodels:\n  main: {uri: s3://bucket/model.zip}\n"


def anchor(key: Ed25519PrivateKey) -> TrustAnchor:
    public = key.public_key()
    return TrustAnchor(key_id_of(public), public.public_bytes_raw().hex())


TRUST = (anchor(KEY),)


def sealed(payload: bytes = PAYLOAD, **changes: Any) -> bytes:
    return seal(payload, **{"thing": THING, "revision": 7, "expires_at": EXPIRES, "key": KEY, **changes})


def opened(data: bytes, **changes: Any) -> Opened:
    return open_message(data, **{"thing": THING, "trust": TRUST, "now": NOW, **changes})


def refusal(data: bytes, **changes: Any) -> str:
    with pytest.raises(RefusedError) as refused:
        opened(data, **changes)
    return str(refused.value)


def changed(data: bytes = b"", **fields: Any) -> bytes:
    return json.dumps(json.loads(data or sealed()) | fields).encode()


def test_what_was_sealed_is_opened() -> None:
    assert opened(sealed()) == Opened("deployment", PAYLOAD, 7, key_id_of(KEY.public_key()), EXPIRES)


def test_the_form_is_the_published_one() -> None:
    """Written out, so that another program can sign: these bytes must never change."""
    envelope = json.loads(sealed(b"revision: 7\n"))
    assert envelope | {"signature": ""} == {
        "schema": "mli.envelope/1",
        "thing": "gg_mli_accel",
        "revision": 7,
        "expires": "2026-12-01T00:00:00Z",
        "payload": "cmV2aXNpb246IDcK",
        "key": "56475aa75463474c",
        "signature": "",
    }
    signed = b"mli.envelope/1\ngg_mli_accel\n7\n2026-12-01T00:00:00Z\nrevision: 7\n"
    assert signed_bytes(ENVELOPE, THING, 7, "2026-12-01T00:00:00Z", b"revision: 7\n") == signed
    KEY.public_key().verify(base64.b64decode(envelope["signature"]), signed)


def test_openssl_alone_can_sign_a_deployment(tmp_path: Path) -> None:
    key, signed, signature = tmp_path / "deploy.key", tmp_path / "signed", tmp_path / "signature"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    signed.write_bytes(b"mli.envelope/1\ngg_mli_accel\n7\n2026-12-01T00:00:00Z\n" + PAYLOAD)
    command = ["openssl", "pkeyutl", "-sign", "-rawin"]
    subprocess.run([*command, "-inkey", key, "-in", signed, "-out", signature], check=True, capture_output=True)
    trusted = anchor(load_private_key(key))
    text = base64.b64encode(signature.read_bytes()).decode()
    assert opened(changed(key=trusted.key_id, signature=text), trust=(trusted,)).payload == PAYLOAD


def test_a_cleared_topic_wants_nothing() -> None:
    assert opened(b"") == Opened("nothing")


def test_a_cancellation_is_signed_too() -> None:
    cancel = seal_cancel(thing=THING, revision=8, expires_at=EXPIRES, key=KEY)
    assert opened(cancel) == Opened("cancel", b"", 8, key_id_of(KEY.public_key()), EXPIRES)
    unsigned = seal_cancel(thing=THING, revision=8, expires_at=EXPIRES, key=None)
    assert "cancellation is not signed" in refusal(unsigned)
    assert opened(unsigned, trust=()) == Opened("cancel", b"", 8, None, EXPIRES)


def test_a_signed_cancellation_is_no_deployment_and_the_other_way_round() -> None:
    cancel = json.loads(seal_cancel(thing=THING, revision=7, expires_at=EXPIRES, key=KEY))
    assert "signature is wrong" in refusal(json.dumps(cancel | {"schema": ENVELOPE, "payload": ""}).encode())
    envelope = json.loads(sealed(b""))
    del envelope["payload"]
    assert "signature is wrong" in refusal(json.dumps(envelope | {"schema": CANCEL}).encode())


@pytest.mark.parametrize("bare", [PAYLOAD, b'{"revision": 7, "models": {}}', b"{revision: 7, models: {}}"])
def test_an_unsigned_deployment_passes_only_where_nothing_is_trusted(bare: bytes) -> None:
    told = refusal(bare)
    assert "not signed" in told
    assert TRUST[0].key_id in told
    assert "--sign" in told
    assert opened(bare, trust=()) == Opened("deployment", bare, 7)


def test_without_a_trusted_key_a_signed_deployment_proves_nothing_but_its_other_fields_hold() -> None:
    assert opened(sealed(key=OTHER), trust=()) == Opened("deployment", PAYLOAD, 7, None, EXPIRES)
    assert "another thing" in refusal(sealed(thing="other"), trust=())
    assert "expired" in refusal(sealed(), trust=(), now=EXPIRES + 1.0)
    assert "not that of its envelope" in refusal(sealed(revision=8), trust=())


def test_any_of_several_trusted_keys_signs() -> None:
    both = (anchor(OTHER), *TRUST)
    assert opened(sealed(), trust=both).key_id == TRUST[0].key_id
    assert opened(sealed(key=OTHER), trust=both).key_id == both[0].key_id


def test_an_unknown_key_is_named_with_those_that_are_known() -> None:
    told = refusal(sealed(key=OTHER))
    assert "does not trust" in told
    assert anchor(OTHER).key_id in told
    assert TRUST[0].key_id in told


def test_a_signature_of_another_key_under_a_trusted_name_is_wrong() -> None:
    assert "signature is wrong" in refusal(changed(sealed(key=OTHER), key=TRUST[0].key_id))


@pytest.mark.parametrize(
    "fields",
    [
        {"revision": 8},
        {"expires": "2027-12-01T00:00:00Z"},
        {"payload": base64.b64encode(PAYLOAD + b"#").decode()},
        {"signature": base64.b64encode(bytes(64)).decode()},
        {"signature": ""},
    ],
)
def test_a_changed_field_makes_the_signature_wrong(fields: dict[str, Any]) -> None:
    assert "signature is wrong" in refusal(changed(**fields))


def test_a_signature_that_is_no_base64_is_told() -> None:
    assert "signature is no base64" in refusal(changed(signature="AA="))


def test_a_deployment_for_another_thing_names_both() -> None:
    told = refusal(sealed(thing="line-2"))
    assert "another thing" in told
    assert THING in told
    assert "line-2" in told


def test_an_expired_deployment_shows_the_clock_that_said_so() -> None:
    told = refusal(sealed(), now=EXPIRES)
    assert "expired" in told
    assert "2026-12-01T00:00:00Z" in told
    assert "clock" in told
    assert opened(sealed(), now=EXPIRES - 0.1).revision == 7


def test_a_taken_deployment_that_comes_again_is_not_refused_for_its_age() -> None:
    assert opened(sealed(), now=EXPIRES + 9.0, highest=7).revision == 7
    assert "expired" in refusal(sealed(), now=EXPIRES + 9.0, highest=6)


def test_the_payloads_own_revision_is_the_envelopes() -> None:
    assert "not that of its envelope" in refusal(sealed(revision=8))
    assert opened(sealed(b"models: {}\n", revision=8)).revision == 8
    for written in (b'"7"', b"7.0", b"true"):
        assert "no number" in refusal(sealed(b"revision: " + written))


def test_a_revision_is_bounded_as_in_a_file() -> None:
    assert schema.MAX_REVISION == MAX_REVISION


def test_a_payload_that_is_no_settings_is_refused() -> None:
    assert "not valid YAML" in refusal(sealed(b"a: [1,"))
    assert "not UTF-8" in refusal(sealed(b"a: \xff"))
    assert "no settings" in refusal(b"- 1\n", trust=())


def test_size_is_bounded_on_both_sides() -> None:
    assert "too large" in refusal(b" " * (MAX_MESSAGE_BYTES + 1))
    with pytest.raises(RefusedError, match="too large"):
        sealed(b"#" * MAX_MESSAGE_BYTES)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (sealed()[:-1], "no JSON"),
        (sealed() + b"}", "no JSON"),
        (sealed().replace(b'"revision": 7', b'"revision": NaN'), "NaN"),
        (sealed().replace(b'"revision": 7', b'"revision": 7, "revision": 7'), "given twice"),
        (sealed().replace(b'"key"', b'"thing"'), "given twice"),
        (changed(revision=True), "revision is no whole number"),
        (changed(revision="7"), "revision is no whole number"),
        (changed(revision=-1), "revision is no whole number"),
        (changed(revision=10**15), "revision is no whole number"),
        (sealed().replace(b'"revision": 7', b'"revision": ' + b"7" * 5000), "no JSON"),
        (changed(extra="x"), "the unknown key 'extra'"),
        (changed(payload=None), "payload is no text"),
        (changed(thing=["gg_mli_accel"]), "thing is no text"),
        (changed(payload="!" * 8), "payload is no base64"),
        (changed(payload="\u00e9aaa"), "payload is no base64"),
        (changed(payload="cmV2aXNpb246IDd="), "payload is no base64"),
        (changed(payload="cmV2aXNpb246IDcK\n"), "payload is no base64"),
        (changed(expires="2026-13-01T00:00:00Z"), "expires is no time"),
        (changed(expires="2026-12-01 00:00:00"), "expires is no time"),
        (changed(expires="2026-12-01T00:00:00Z\n"), "expires is no time"),
        (json.dumps({"schema": ENVELOPE}).encode(), "no expires, key, payload, revision, signature, thing"),
        (json.dumps({"schema": "mli.envelope/2"}).encode(), "newer mli"),
        (json.dumps({"schema": 1}).encode(), "newer mli"),
        (b'{"schema": ' + b"[" * 200_000, "no JSON"),
        (b'{"schema": "\xff"}', "no JSON"),
    ],
)
@pytest.mark.parametrize("trust", [TRUST, ()])
def test_what_is_no_envelope_is_refused_with_what_is_wrong(
    data: bytes, words: str, trust: tuple[TrustAnchor, ...]
) -> None:
    assert words in refusal(data, trust=trust)


@pytest.mark.parametrize("message", [sealed(), seal_cancel(thing=THING, revision=8, expires_at=EXPIRES, key=KEY)])
def test_no_flipped_bit_changes_what_is_opened(message: bytes) -> None:
    whole = opened(message)
    passed = 0
    for bit in range(8 * len(message)):
        data = bytearray(message)
        data[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(RefusedError):
            assert opened(bytes(data)) == whole, f"bit {bit}"
            passed += 1
    assert passed < len(message) / 20, "hardly a bit has no meaning"


@settings(deadline=None)
@given(payload=st.binary(max_size=200), revision=st.integers(0, MAX_REVISION), cut=st.integers(1, 10**6))
def test_any_bytes_pass_through_as_they_are_and_never_cut(payload: bytes, revision: int, cut: int) -> None:
    body = b"# " + payload.hex().encode() + b"\nmodels: {}\n"
    data = sealed(body, revision=revision)
    assert opened(data) == Opened("deployment", body, revision, TRUST[0].key_id, EXPIRES)
    with pytest.raises(RefusedError):
        opened(data[: -(cut % len(data) or 1)])


@settings(deadline=None)
@given(data=st.binary(min_size=1, max_size=300) | st.text(min_size=1).map(str.encode))
def test_nothing_passes_unsigned(data: bytes) -> None:
    with pytest.raises(RefusedError):
        opened(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(name=st.sampled_from(sorted(json.loads(sealed()))), value=JSON, trusted=st.booleans())
def test_any_value_in_any_field_is_an_answer_and_no_crash(name: str, value: Any, trusted: bool) -> None:
    assume(name != "schema" or value != ENVELOPE)
    try:
        opened(changed(**{name: value}), trust=TRUST if trusted else ())
    except RefusedError:
        return
    assert not trusted or json.loads(sealed())[name] == value


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"], "another kind (RSA)"),
        (["genpkey", "-algorithm", "ed448"], "another kind (Ed448)"),
        (["genpkey", "-algorithm", "ed25519", "-aes128", "-pass", "pass:word"], "pass phrase"),
    ],
)
def test_another_kind_of_key_is_named(tmp_path: Path, arguments: list[str], words: str) -> None:
    path = tmp_path / "deploy.key"
    subprocess.run(["openssl", *arguments, "-out", path], check=True, capture_output=True)
    with pytest.raises(UsageError) as refused:
        load_private_key(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_public_key_a_missing_one_and_no_key_are_told_apart(tmp_path: Path) -> None:
    key, public = tmp_path / "deploy.key", tmp_path / "deploy.pub.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    with pytest.raises(UsageError, match="cannot sign") as refused:
        load_private_key(public)
    assert "public key" in str(refused.value)
    with pytest.raises(UsageError, match="cannot be read"):
        load_private_key(tmp_path / "none")
    text = key.read_text()
    key.write_text(text.replace("MC4", "AAA"))
    with pytest.raises(UsageError, match="cannot sign"):
        load_private_key(key)
    key.write_text("nothing")
    with pytest.raises(UsageError) as refused:
        load_private_key(key)
    assert "openssl genpkey" in str(refused.value)
