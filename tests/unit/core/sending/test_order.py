"""Which revision is sent, and when a file, a list of things or a revision is refused before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mli.config.deployment import read_deployment
from mli.config.settings import TrustAnchor
from mli.core.envelope import MAX_REVISION, key_id_of, open_message, seal, seal_cancel
from mli.core.sending.checked_file import CheckedFile, check_file
from mli.core.sending.current import Current, Reader
from mli.core.sending.device_report import read_deployment_report, read_presence
from mli.core.sending.order import Order, choose_revision
from mli.core.sending.things import things_of
from mli.core.topics import deployment_topic, report_topic
from mli.delivery.received import Received
from mli.errors import RefusedError, UsageError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUST = (TrustAnchor(key_id_of(KEY.public_key()), KEY.public_key().public_bytes_raw().hex()),)
EXPIRES = 1_796_083_200.0
TEXT = "model: s3://bucket/model.zip\nsource: demo\n"
IDENTITY = read_deployment(TEXT.encode(), "").identity


def current(message: bytes = b"", report: dict[str, Any] | None = None, thing: str = "a") -> Current:
    """What a reader makes of retained messages."""
    reader = Reader([thing])
    if message:
        reader.feed(Received(deployment_topic(thing), message, {}, 0.0, retained=True))
    if report is not None:
        reader.feed(Received(report_topic(thing), json.dumps(report).encode(), {}, 0.0, retained=True))
    return reader.found[thing]


def order(**changes: Any) -> Order:
    return Order(**{"expires_at": EXPIRES, "text": TEXT, "identity": IDENTITY, **changes})


# --- revisions -----------------------------------------------------------------------------------------------


def test_the_first_revision_is_one() -> None:
    assert choose_revision(order(), {"a": current()}) == 1


@pytest.mark.parametrize(
    "found",
    [
        current(b"revision: 6\n" + TEXT.encode() + b"top: 2\n"),
        current(seal(TEXT.encode(), thing="a", revision=6, expires_at=1.0, key=KEY)),
        current(seal_cancel(thing="a", revision=6, expires_at=1.0, key=KEY)),
        current(report={"state": "healthy", "revision": 6}),
        current(report={"state": "refused", "revision": None, "serving": {"revision": 6, "identity": "x"}}),
        current(b"revision: 2\n" + TEXT.encode(), {"state": "refused", "revision": 6}),
    ],
)
def test_the_next_revision_is_above_all_that_is_known_of_the_thing(found: Current) -> None:
    assert choose_revision(order(), {"a": found, "b": current()}) == 7


def test_what_is_no_deployment_does_not_count() -> None:
    for message in (b"?", b"- 1", b'{"schema": "mli.envelope/1"}', TEXT.encode()):
        assert choose_revision(order(), {"a": current(message)}) == 1


def test_a_revision_that_a_thing_would_refuse_is_refused_here() -> None:
    found = {"a": current(b"revision: 6\n" + TEXT.encode()), "b": current()}
    for revision in (5, 6):
        with pytest.raises(UsageError, match="only rise") as refused:
            choose_revision(order(revision=revision, text=TEXT + "top: 2\n", identity="x"), found)
        assert "a is at revision 6" in str(refused.value)
        assert "7 or more" in str(refused.value)
    assert choose_revision(order(revision=7), found) == 7


def test_a_files_own_revision_is_said_to_be_the_files() -> None:
    with pytest.raises(UsageError) as refused:
        choose_revision(
            order(revision=3, asked_by="d.yaml: revision"), {"a": current(report={"state": "x", "revision": 6})}
        )
    assert "d.yaml: revision" in str(refused.value)
    assert "`revision:` out of the file" in str(refused.value)


def test_the_same_deployment_under_the_same_revision_may_be_sent_again() -> None:
    same = order(revision=6)
    sent = same.messages(["a"], 6)["a"]
    assert choose_revision(same, {"a": current(sent)}) == 6
    assert (
        choose_revision(same, {"a": current(report={"state": "healthy", "revision": 6, "identity": IDENTITY})}) == 6
    )
    with pytest.raises(UsageError):
        choose_revision(same, {"a": current(report={"state": "healthy", "revision": 6, "identity": "other"})})
    cancel = Order(EXPIRES, revision=6)
    assert choose_revision(cancel, {"a": current(cancel.messages(["a"], 6)["a"])}) == 6
    with pytest.raises(UsageError):
        choose_revision(cancel, {"a": current(sent)})


def test_the_same_command_does_nothing_twice() -> None:
    sent = order().messages(["a", "b"], 6)
    signed = order(key=KEY).messages(["a"], 6)["a"]
    assert choose_revision(order(), {"a": current(sent["a"]), "b": current(sent["b"])}) == 6
    assert choose_revision(order(key=KEY), {"a": current(signed)}) == 6
    assert choose_revision(order(), {"a": current(signed), "b": current(sent["b"])}) == 7
    assert choose_revision(order(key=KEY), {"a": current(sent["a"])}) == 7
    assert choose_revision(order(revision=6, key=KEY), {"a": current(sent["a"])}) == 6
    assert choose_revision(order(), {"a": current(sent["a"]), "c": current()}) == 7
    assert choose_revision(order(text=TEXT + "top: 2\n"), {"a": current(sent["a"])}) == 7
    cancel = Order(EXPIRES)
    assert choose_revision(cancel, {"a": current(sent["a"])}) == 7
    assert choose_revision(cancel, {"a": current(cancel.messages(["a"], 7)["a"])}) == 7
    assert choose_revision(order(), {"a": current(cancel.messages(["a"], 7)["a"])}) == 8


def test_who_has_no_key_cannot_use_up_the_revisions_of_who_has_one() -> None:
    """Anybody who may publish can put an unsigned message, or a report, there."""
    forged = order().messages(["a"], MAX_REVISION - 1)["a"]
    assert choose_revision(order(key=KEY), {"a": current(forged)}) == 1
    assert choose_revision(order(key=KEY, revision=700), {"a": current(forged)}) == 700
    mine = order(key=KEY).messages(["a"], 41)["a"]
    assert choose_revision(order(key=KEY, text=TEXT + "top: 2\n"), {"a": current(mine)}) == 42
    with pytest.raises(UsageError, match="Revisions only rise"):
        choose_revision(order(key=KEY, revision=40), {"a": current(mine)})


def test_without_the_right_to_read_the_revision_must_be_given() -> None:
    blind = {"a": Current(refused=RefusedError("no", got="not authorized"))}
    with pytest.raises(UsageError, match="cannot be read") as refused:
        choose_revision(order(), blind)
    assert "--revision" in str(refused.value)
    assert choose_revision(order(revision=3), blind) == 3


# --- messages ------------------------------------------------------------------------------------------------


def test_a_message_says_its_revision_signed_or_not() -> None:
    plain = order().messages(["a", "b"], 7)
    assert plain["a"] == plain["b"] == b"revision: 7\n" + TEXT.encode()
    signed = order(key=KEY).messages(["a", "b"], 7)
    for thing in ("a", "b"):
        opened = open_message(signed[thing], thing=thing, trust=TRUST, now=EXPIRES - 1)
        assert opened.payload == plain["a"]
    cancel = Order(EXPIRES, key=KEY).messages(["a"], 8)["a"]
    assert open_message(cancel, thing="a", trust=TRUST, now=0.0).kind == "cancel"


def test_a_deployment_that_no_thing_would_take_for_its_size_is_not_sent() -> None:
    for key in (None, KEY):
        with pytest.raises(RefusedError, match="too large"):
            order(text=TEXT + "#" * 1024 * 1024, key=key).messages(["a"], 7)


# --- files ---------------------------------------------------------------------------------------------------


def checked(folder: Path, text: str, *things: str) -> CheckedFile:
    path = folder / "deployment.yaml"
    path.write_text(text)
    return check_file(path, things or ("a",))


def test_a_file_is_read_as_devices_read_it(tmp_path: Path) -> None:
    found = checked(tmp_path, f"revision: 4\n{TEXT}")
    assert (found.revision, found.identity, found.trust) == (4, IDENTITY, None)


def test_a_model_without_a_digest_is_told(tmp_path: Path) -> None:
    assert "pins its digest" in checked(tmp_path, TEXT).warnings[0]
    full = f"model: {{uri: s3://bucket/model.zip, sha256: {'ab' * 32}}}\nsource: demo\n"
    assert checked(tmp_path, full).warnings == ()
    assert checked(tmp_path, TEXT.replace("s3://bucket", "file:///models")).warnings == ()


def test_a_model_on_the_workstation_is_refused_with_the_way_to_send_it(tmp_path: Path) -> None:
    (tmp_path / "model.zip").touch()
    with pytest.raises(UsageError, match="lies on this machine") as refused:
        checked(tmp_path, TEXT.replace("s3://bucket/", "./"))
    assert "s3 cp" in str(refused.value)
    with pytest.raises(UsageError, match="named by a path"):
        checked(tmp_path, TEXT.replace("s3://bucket/", "/models/"))


def test_what_every_device_would_refuse_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        checked(tmp_path, TEXT + "tpo: 3\ninterval: 5 parsecs\n")
    assert "deployment.yaml:3" in str(refused.value)
    assert "deployment.yaml:4" in str(refused.value)
    with pytest.raises(UsageError, match="cannot be read"):
        check_file(tmp_path / "none.yaml", ("a",))


def test_a_file_for_one_thing_goes_to_no_other(tmp_path: Path) -> None:
    assert checked(tmp_path, f"thing: a\n{TEXT}", "a").identity == IDENTITY
    for things in (("b",), ("a", "b")):
        with pytest.raises(UsageError, match="one thing"):
            checked(tmp_path, f"thing: a\n{TEXT}", *things)


def test_the_keys_that_a_file_trusts_are_named(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert checked(tmp_path, json.dumps({"model": "s3://bucket/m.zip", "source": "demo", "trust": [pem]})).trust == (
        TRUST[0].key_id,
    )


# --- things --------------------------------------------------------------------------------------------------


def test_things_are_named_once_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "things.txt"
    path.write_text("# the hall\nline-2\n\n line-1  # left\nline-2\n")
    assert things_of(["line-1", "line-9"], path) == ("line-1", "line-9", "line-2")


@pytest.mark.parametrize("name", ["line 1", "a/b", "+", "#", "", "x" * 129, "ä"])
def test_what_cannot_be_a_thing_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no name of a thing"):
        things_of([name], None)
    if name and name != "#":
        path = tmp_path / "things.txt"
        path.write_text(f"line-1\n{name}\n")
        with pytest.raises(UsageError) as refused:
            things_of([], path)
        assert "things.txt:2" in str(refused.value)


def test_no_thing_and_no_list_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no thing is named"):
        things_of([], None)
    with pytest.raises(UsageError, match="cannot be read"):
        things_of([], tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"\xe4\n")
    with pytest.raises(UsageError, match="UTF-8"):
        things_of([], tmp_path / "latin")


# --- what things say -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"?", b"[]", b"{}", b'{"state": 1}', b"\xff", b"[" * 200_000])
def test_what_is_no_status_is_none(payload: bytes) -> None:
    assert read_deployment_report(payload) is None
    assert read_presence(payload) is None


def test_a_status_of_another_version_is_read_as_far_as_it_goes() -> None:
    document = {
        "state": "polishing",
        "revision": "7",
        "progress": {"model": 1},
        "error": [],
        "models": 3,
        "serving": 0,
    }
    found = read_deployment_report(json.dumps(document).encode())
    assert found is not None
    assert (found.state, found.revision, found.progress, found.error, found.pinned) == (
        "polishing",
        None,
        None,
        None,
        (),
    )
    assert not found.ended
