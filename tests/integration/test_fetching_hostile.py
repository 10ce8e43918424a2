"""Servers that stall, lie, redirect and cut; each is bounded, named, and leaves nothing behind that does harm."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.brokers import Certificates, free_port
from tests.fixtures.hostile_http import HostileServer, Script, Talk, server_tls

from mli.config.settings import AllowSettings, ModelSource, StoreSettings
from mli.errors import ArchiveRefused, MliError, RefusedError, RetryError, StopError
from mli.models.fetching.download import Patience
from mli.models.fetching.fetcher import Fetcher
from mli.models.fetching.watch import FetchCancelled

MEBIBYTE = 1024 * 1024
DATA = random.Random(7).randbytes(3 * MEBIBYTE)
SHA256 = hashlib.sha256(DATA).hexdigest()
HALF = DATA[: len(DATA) // 2]
ETAG = '"one"'
QUICK = Patience(attempts=3, first_pause_s=0.01, longest_pause_s=0.05)
MakeServer = Callable[..., HostileServer]


@pytest.fixture
def web(make_server: MakeServer, certificates: Certificates) -> Callable[[Script], HostileServer]:
    """Makes https servers with a certificate for localhost and 127.0.0.1."""
    return lambda script: make_server(script, server_tls(certificates.server, certificates.server_key))


@pytest.fixture
def fetch(certificates: Certificates, tmp_path: Path) -> Callable[..., Any]:
    """Fetches from an https server; a test whose server stalls says how long that is borne."""

    def call(source: ModelSource, hosts: tuple[str, ...] = ("localhost",), **options: Any) -> Any:
        changes = options.pop("store", {})
        patience = options.pop("patience", QUICK)
        store = StoreSettings(**{"ca_path": str(certificates.ca), **changes})
        fetcher = Fetcher(store, AllowSettings(hosts=hosts), None, "thing", environ={}, patience=patience)
        return fetcher.fetch(source, tmp_path / "downloads", **options)

    return call


def in_turn(*scripts: Script) -> Script:
    """The first script for the first request …; the last one for all that follow."""
    return lambda talk: scripts[min(talk.number, len(scripts) - 1)](talk)


def whole(talk: Talk) -> None:
    talk.part(DATA, etag=ETAG)


def cut(talk: Talk) -> None:
    talk.answer(200, HALF, content_length=len(DATA), etag=ETAG)


def stall(talk: Talk) -> None:
    cut(talk)
    talk.hang()


def endless(talk: Talk) -> None:
    talk.answer(200, content_length=None, transfer_encoding="chunked")
    while not talk.ended.is_set():
        talk.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def left_over(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# --- the line --------------------------------------------------------------------------------------------------


def test_https_archive_comes(web: Any, fetch: Any) -> None:
    server = web(whole)
    fetched = fetch(ModelSource(f"{server.url}/models/a.zip?token=of-the-day", SHA256))
    assert fetched.path.read_bytes() == DATA
    assert fetched.path.name == "a.zip"
    assert server.talks[0].target == "/models/a.zip?token=of-the-day"
    assert "of-the-day" not in fetched.told


@pytest.mark.parametrize("first", [cut, stall])
def test_transfer_that_breaks_goes_on_in_the_same_fetch(web: Any, fetch: Any, first: Script) -> None:
    server = web(in_turn(first, whole))
    fetched = fetch(ModelSource(f"{server.url}/a.zip", SHA256), store={"stall_timeout_s": 1.0})
    assert fetched.path.read_bytes() == DATA
    assert server.talks[1].headers["range"] == f"bytes={len(HALF)}-"
    assert server.talks[1].headers["if-match"] == ETAG


def test_store_that_always_stalls_is_given_up_and_told(web: Any, fetch: Any, tmp_path: Path) -> None:
    server = web(in_turn(stall, lambda talk: talk.hang()))
    with pytest.raises(RetryError, match="connection for the model archive failed") as caught:
        fetch(ModelSource(f"{server.url}/a.zip?secret=1", SHA256), store={"stall_timeout_s": 0.5})
    assert "no bytes came for 0.5 s" in (caught.value.got or "")
    assert "secret=1" not in str(caught.value)
    assert len(server.talks) == 1 + QUICK.attempts
    assert len(HALF) in [path.stat().st_size for path in left_over(tmp_path)]


def test_fetch_is_cancelled_in_the_middle_of_a_stall(web: Any, fetch: Any) -> None:
    stalled_at: list[float] = []

    def first(talk: Talk) -> None:
        cut(talk)
        stalled_at.append(time.monotonic())
        talk.hang()

    def cancelled() -> bool:
        """A while later, when all that came was read."""
        return bool(stalled_at) and time.monotonic() - stalled_at[0] > 0.5

    server = web(first)
    with pytest.raises(FetchCancelled):
        fetch(ModelSource(f"{server.url}/a.zip", SHA256), store={"stall_timeout_s": 3600.0}, cancelled=cancelled)


def test_fetch_is_cancelled_while_it_waits_to_try_again(web: Any, fetch: Any) -> None:
    refused = threading.Event()

    def busy(talk: Talk) -> None:
        talk.answer(503, retry_after=3600)
        refused.set()

    server = web(busy)
    patience = Patience(attempts=9, first_pause_s=3600.0, longest_pause_s=3600.0)
    with pytest.raises(FetchCancelled):
        fetch(ModelSource(f"{server.url}/a.zip"), cancelled=refused.is_set, patience=patience)


def test_host_that_takes_no_connection_is_given_up(fetch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with pytest.raises(RetryError) as caught:
            fetch(ModelSource(f"https://127.0.0.1:{port}/a.zip"), ("127.0.0.1",), store={"connect_timeout_s": 0.2})
        for one in waiting:
            one.close()
    assert "no connection for 0.2 s" in (caught.value.got or "")


def test_host_that_is_away_is_told(fetch: Any) -> None:
    with pytest.raises(RetryError) as caught:
        fetch(ModelSource(f"https://localhost:{free_port()}/a.zip"))
    assert "refused" in (caught.value.got or "")
    assert "3 attempts" in (caught.value.got or "")


def test_name_that_nobody_knows_is_told(fetch: Any) -> None:
    with pytest.raises(RetryError, match="cannot be looked up") as caught:
        fetch(ModelSource("https://store.invalid/a.zip"), ("*.invalid",), store={"connect_timeout_s": 1.0})
    assert "DNS" in (caught.value.remedy or "")


def test_server_that_is_not_trusted_is_the_devices_matter(web: Any, fetch: Any, certificates: Certificates) -> None:
    server = web(whole)
    with pytest.raises(StopError, match="not trusted") as caught:
        fetch(ModelSource(f"{server.url}/a.zip"), store={"ca_path": str(certificates.other_ca)})
    assert "store: {ca:" in (caught.value.remedy or "")
    assert not server.talks


def test_certificate_of_another_host_is_told(make_server: MakeServer, fetch: Any, certificates: Certificates) -> None:
    server = make_server(whole, server_tls(certificates.elsewhere, certificates.elsewhere_key))
    with pytest.raises(StopError, match="not trusted") as caught:
        fetch(ModelSource(f"{server.url}/a.zip"))
    assert "name that the server's certificate has" in (caught.value.remedy or "")


def test_missing_ca_file_is_told(web: Any, fetch: Any, tmp_path: Path) -> None:
    with pytest.raises(StopError, match="certificate file") as caught:
        fetch(ModelSource(f"{web(whole).url}/a.zip"), store={"ca_path": str(tmp_path / "none.pem")})
    assert caught.value.where == str(tmp_path / "none.pem")


def test_server_that_finishes_no_handshake_is_given_up(make_server: MakeServer, fetch: Any) -> None:
    server = make_server(whole)  # waits for a request, and takes the handshake for its beginning
    with pytest.raises(RetryError) as caught:
        fetch(ModelSource(f"{server.url.replace('http:', 'https:')}/a.zip"), store={"connect_timeout_s": 0.2})
    assert "no TLS handshake for 0.2 s" in (caught.value.got or "")


# --- the answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (401, RefusedError, "login"),
        (403, RefusedError, "permissions"),
        (404, RefusedError, "upload"),
        (410, RefusedError, "removed"),
        (418, RefusedError, "uri"),
        (429, RetryError, "tried again"),
        (500, RetryError, "tried again"),
        (503, RetryError, "tried again"),
        (204, RefusedError, "uri"),
    ],
)
def test_each_status_says_what_to_do(web: Any, fetch: Any, status: int, kind: type[MliError], says: str) -> None:
    server = web(lambda talk: talk.answer(status, b"<html>secret</html>" if status != 204 else b""))
    with pytest.raises(kind) as caught:
        fetch(ModelSource(f"{server.url}/a.zip?key=k"))
    assert f"HTTP status {status}" in (caught.value.got or "")
    assert says in (caught.value.remedy or "")
    assert "key=k" not in str(caught.value)
    assert len(server.talks) == (QUICK.attempts if kind is RetryError else 1)


def test_what_is_no_http_is_told(web: Any, fetch: Any) -> None:
    with pytest.raises(RetryError, match="no HTTP"):
        fetch(ModelSource(f"{web(lambda talk: talk.send(b'SSH-2.0-server')).url}/a.zip"))


def test_headers_without_end_are_bounded(web: Any, fetch: Any) -> None:
    def script(talk: Talk) -> None:
        talk.send(b"HTTP/1.1 200 OK\r\n")
        while not talk.ended.is_set():
            talk.send(b"x-more: " + b"y" * 1000 + b"\r\n")

    with pytest.raises(RetryError, match="no HTTP"):
        fetch(ModelSource(f"{web(script).url}/a.zip"))


def test_body_without_end_is_cut_off(web: Any, fetch: Any, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="too large"):
        fetch(ModelSource(f"{web(endless).url}/a.zip"), store={"max_bytes": 5 * MEBIBYTE})
    assert not left_over(tmp_path)


def test_promise_of_more_than_the_disk_has_is_refused_at_once(web: Any, fetch: Any, tmp_path: Path) -> None:
    server = web(lambda talk: talk.answer(200, HALF, content_length=2**52))
    with pytest.raises(RetryError, match="no room") as caught:
        fetch(ModelSource(f"{server.url}/a.zip"), store={"max_bytes": 2**60})
    assert str(2**52) in (caught.value.expected or "")
    assert len(server.talks) == 1
    assert sum(path.stat().st_size for path in left_over(tmp_path)) < 1000


@pytest.mark.parametrize("length", ["-5", "many", "5, 6"])
def test_length_that_is_no_number_is_refused_or_read_to_the_end(web: Any, fetch: Any, length: str) -> None:
    server = web(lambda talk: talk.answer(200, DATA, content_length=length))
    fetched = fetch(ModelSource(f"{server.url}/a.zip", SHA256))
    assert fetched.sha256 == SHA256


def test_body_that_is_longer_than_promised_is_another_archive(web: Any, fetch: Any) -> None:
    server = web(lambda talk: talk.answer(200, DATA, content_length=len(HALF)))
    with pytest.raises(ArchiveRefused) as caught:
        fetch(ModelSource(f"{server.url}/a.zip", SHA256))
    assert caught.value.got == f"sha256 {hashlib.sha256(HALF).hexdigest()}"


def test_body_without_length_needs_a_digest(web: Any, fetch: Any) -> None:
    server = web(lambda talk: talk.answer(200, HALF, content_length=None))
    with pytest.raises(RefusedError, match="does not say where the model archive ends"):
        fetch(ModelSource(f"{server.url}/a.zip"))
    server = web(lambda talk: talk.answer(200, DATA, content_length=None))
    assert fetch(ModelSource(f"{server.url}/a.zip", SHA256)).sha256 == SHA256


def test_chunked_body_that_is_cut_is_no_archive(web: Any, fetch: Any) -> None:
    def script(talk: Talk) -> None:
        talk.answer(200, content_length=None, transfer_encoding="chunked")
        talk.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    with pytest.raises(RetryError):
        fetch(ModelSource(f"{web(script).url}/a.zip"))


def test_server_that_knows_no_ranges_sends_it_whole_again(web: Any, fetch: Any) -> None:
    server = web(in_turn(cut, lambda talk: talk.answer(200, DATA, etag=ETAG)))
    fetched = fetch(ModelSource(f"{server.url}/a.zip", SHA256))
    assert (fetched.sha256, fetched.path.read_bytes()) == (SHA256, DATA)


@pytest.mark.parametrize(
    "told",
    [
        None,
        "bytes 5-10/11",
        f"bytes 0-{len(DATA) - 1}/{len(DATA)}",
        f"bytes {len(HALF)}-{len(DATA)}/{len(DATA) + 1}",
        "lines 1-2/3",
    ],
)
def test_part_that_is_not_the_one_asked_for_is_not_appended(web: Any, fetch: Any, told: str | None) -> None:
    def wrong(talk: Talk) -> None:
        talk.answer(206, DATA[len(HALF) :], content_range=told, etag=ETAG)

    server = web(in_turn(cut, wrong, whole))
    assert fetch(ModelSource(f"{server.url}/a.zip", SHA256)).path.read_bytes() == DATA
    assert "range" not in server.talks[2].headers


def test_part_of_another_etag_is_not_appended(web: Any, fetch: Any) -> None:
    server = web(in_turn(cut, lambda talk: talk.part(DATA[::-1], etag='"two"'), whole))
    assert fetch(ModelSource(f"{server.url}/a.zip")).path.read_bytes() == DATA


def test_mixture_of_two_archives_is_fetched_once_more(web: Any, fetch: Any) -> None:
    """Without ETags only the digest can tell."""
    older = in_turn(lambda talk: talk.answer(200, bytes(len(HALF)), content_length=len(DATA)), lambda t: t.part(DATA))
    assert fetch(ModelSource(f"{web(older).url}/a.zip", SHA256)).path.read_bytes() == DATA


def test_without_etag_and_digest_nothing_is_pieced_together(web: Any, fetch: Any) -> None:
    server = web(in_turn(lambda talk: talk.answer(200, HALF, content_length=len(DATA)), lambda talk: talk.part(DATA)))
    assert fetch(ModelSource(f"{server.url}/a.zip")).path.read_bytes() == DATA
    assert "range" not in server.talks[1].headers


def test_weak_etag_is_no_etag(web: Any, fetch: Any) -> None:
    def first(talk: Talk) -> None:
        talk.answer(200, HALF, content_length=len(DATA), etag='W/"one"')

    server = web(in_turn(first, lambda talk: talk.part(DATA)))
    assert fetch(ModelSource(f"{server.url}/a.zip")).path.read_bytes() == DATA
    assert "if-match" not in server.talks[1].headers


def test_archive_that_is_another_one_each_time_is_given_up(web: Any, fetch: Any) -> None:
    def changing(talk: Talk) -> None:
        if "range" in talk.headers:
            talk.answer(412)
        else:
            talk.answer(200, HALF, content_length=len(DATA), etag=f'"{talk.number}"')

    with pytest.raises(RetryError):
        fetch(ModelSource(f"{web(changing).url}/a.zip", SHA256))


def test_server_that_sends_parts_that_nobody_asked_for_is_given_up(web: Any, fetch: Any) -> None:
    server = web(lambda talk: talk.answer(206, DATA, content_range=f"bytes 5-{len(DATA) + 4}/{len(DATA) + 5}"))
    with pytest.raises(RetryError, match="changes faster than it can be fetched"):
        fetch(ModelSource(f"{server.url}/a.zip", SHA256))
    assert len(server.talks) == QUICK.attempts


def test_part_of_unknown_whole_that_is_cut_is_not_the_end(web: Any, fetch: Any) -> None:
    """Nobody told the archive's size, so only the part's own length says that it was cut."""

    def chunked_and_cut(talk: Talk) -> None:
        talk.answer(200, content_length=None, transfer_encoding="chunked", etag=ETAG)
        talk.send(b"%x\r\n" % len(HALF) + HALF + b"\r\n")

    def rest(talk: Talk, cut_bytes: int) -> None:
        start = int(talk.headers["range"].removeprefix("bytes=").rstrip("-"))
        told = f"bytes {start}-{len(DATA) - 1}/*"
        body = DATA[start : len(DATA) - cut_bytes]
        talk.answer(206, body, content_range=told, content_length=len(DATA) - start, etag=ETAG)

    server = web(in_turn(chunked_and_cut, lambda talk: rest(talk, 1000), lambda talk: rest(talk, 0)))
    assert fetch(ModelSource(f"{server.url}/a.zip")).path.read_bytes() == DATA
    assert len(server.talks) == 3


# --- redirects -------------------------------------------------------------------------------------------------


def test_redirect_to_an_allowed_host_is_followed(web: Any, fetch: Any) -> None:
    target = web(whole)
    server = web(lambda talk: talk.answer(302, location=f"https://127.0.0.1:{target.port}/b.zip?signature=s"))
    fetched = fetch(ModelSource(f"{server.url}/a.zip", SHA256), ("localhost", "127.0.0.1"))
    assert fetched.path.read_bytes() == DATA
    assert "authorization" not in target.talks[0].headers


def test_redirect_to_another_path_is_followed(web: Any, fetch: Any) -> None:
    server = web(lambda talk: talk.answer(307, location="../b.zip") if talk.number == 0 else whole(talk))
    assert fetch(ModelSource(f"{server.url}/models/a.zip", SHA256)).sha256 == SHA256
    assert server.talks[1].target == "/b.zip"


def test_redirect_to_a_host_that_is_not_allowed_is_refused(web: Any, fetch: Any) -> None:
    target = web(whole)
    server = web(lambda talk: talk.answer(302, location=f"https://127.0.0.1:{target.port}/b.zip?signature=s"))
    with pytest.raises(RefusedError, match=r"does not fetch model archives from 127\.0\.0\.1") as caught:
        fetch(ModelSource(f"{server.url}/a.zip"))
    assert "add 127.0.0.1 to allow.hosts" in (caught.value.remedy or "")
    assert "signature" not in str(caught.value)
    assert not target.talks


@pytest.mark.parametrize(
    "location", ["http://localhost/a.zip", None, "https://[bad/", "ftp://localhost/a", "https://u:p@x/"]
)
def test_redirect_to_what_is_no_https_is_refused(web: Any, fetch: Any, location: str | None) -> None:
    server = web(lambda talk: talk.answer(301, location=location))
    with pytest.raises(RefusedError, match="redirects to where it cannot be followed") as caught:
        fetch(ModelSource(f"{server.url}/a.zip"))
    assert "u:p" not in str(caught.value)


def test_redirects_in_a_circle_end(web: Any, fetch: Any) -> None:
    server = web(lambda talk: talk.answer(302, location="/a.zip"))
    with pytest.raises(RefusedError, match="in a circle"):
        fetch(ModelSource(f"{server.url}/a.zip"))
    assert len(server.talks) == 6


# --- an S3 store that misbehaves -------------------------------------------------------------------------------


@pytest.fixture
def fetch_s3(tmp_path: Path) -> Callable[..., Any]:
    def call(server: HostileServer, **changes: Any) -> Any:
        options = {"access_key_id": "AKID", "secret_access_key": "the-secret", **changes}
        store = StoreSettings(endpoint=server.url, **options)
        fetcher = Fetcher(store, AllowSettings(), None, "thing", environ={}, patience=QUICK)
        return fetcher.fetch(ModelSource("s3://models/a.zip", SHA256), tmp_path / "downloads")

    return call


def s3_error(code: str, message: str = "Told.", more: str = "") -> bytes:
    secret = "<StringToSign>secret</StringToSign><SignatureProvided>signed</SignatureProvided>"
    return f"<Error><Code>{code}</Code><Message>{message}</Message>{secret}{more}</Error>".encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (503, s3_error("SlowDown"), RetryError, "cannot answer now"),
        (400, s3_error("RequestTimeout"), RetryError, "cannot answer now"),
        (403, s3_error("RequestTimeTooSkewed"), RetryError, "clock is wrong"),
        (403, s3_error("InvalidAccessKeyId"), StopError, "does not accept"),
        (400, s3_error("ExpiredToken"), StopError, "does not accept"),
        (403, b"", RefusedError, "may not be read"),
        (404, b"", RefusedError, "no such model archive"),
        (405, b"<html>", RefusedError, "does not give the archive"),
        (301, s3_error("PermanentRedirect"), StopError, "another region"),
        (307, b"", StopError, "another region"),
    ],
)
def test_each_answer_of_a_store_has_its_words(
    make_server: MakeServer, fetch_s3: Any, status: int, body: bytes, kind: type[MliError], says: str
) -> None:
    server = make_server(lambda talk: talk.answer(status, body))
    with pytest.raises(kind, match=says) as caught:
        fetch_s3(server)
    text = str(caught.value)
    assert not any(secret in text for secret in ("the-secret", "StringToSign", "signed", "Signature="))
    assert caught.value.remedy


def test_clock_that_is_off_is_told_in_minutes(make_server: MakeServer, fetch_s3: Any) -> None:
    server = make_server(
        lambda talk: talk.answer(403, s3_error("RequestTimeTooSkewed"), date="Sat, 01 Jan 2000 00:00:00 GMT")
    )
    with pytest.raises(RetryError) as caught:
        fetch_s3(server)
    assert "minutes ahead of the store's" in (caught.value.got or "")


def test_store_that_names_a_region_and_refuses_it_again_is_told_with_both(
    make_server: MakeServer, fetch_s3: Any
) -> None:
    server = make_server(
        lambda talk: talk.answer(301, s3_error("PermanentRedirect"), x_amz_bucket_region="eu-west-3")
    )
    with pytest.raises(StopError, match="another region than us-east-2") as caught:
        fetch_s3(server, region="us-east-2")
    assert "eu-west-3" in (caught.value.expected or "")
    assert "region: eu-west-3" in (caught.value.remedy or "")
    assert "/us-east-2/s3/" in server.talks[0].headers["authorization"]
    assert "/eu-west-3/s3/" in server.talks[1].headers["authorization"]
    assert len(server.talks) == 2


def test_store_that_sends_it_round_the_regions_is_stopped(make_server: MakeServer, fetch_s3: Any) -> None:
    server = make_server(
        lambda talk: talk.answer(301, s3_error("PermanentRedirect"), x_amz_bucket_region=f"eu-west-{talk.number + 1}")
    )
    with pytest.raises(StopError, match="another region"):
        fetch_s3(server)
    assert len(server.talks) == 2


def test_region_that_is_none_is_not_followed(make_server: MakeServer, fetch_s3: Any) -> None:
    server = make_server(
        lambda talk: talk.answer(301, s3_error("PermanentRedirect"), x_amz_bucket_region="evil.example/#")
    )
    with pytest.raises(StopError, match="another region"):
        fetch_s3(server)
    assert len(server.talks) == 1


def test_store_is_left_alone_for_as_long_as_it_asks(make_server: MakeServer, fetch_s3: Any) -> None:
    server = make_server(
        in_turn(lambda talk: talk.answer(503, s3_error("SlowDown"), retry_after=1), lambda talk: talk.part(DATA))
    )
    assert fetch_s3(server).sha256 == SHA256


def test_anonymous_device_is_told_so(make_server: MakeServer, fetch_s3: Any) -> None:
    server = make_server(lambda talk: talk.answer(403, s3_error("AccessDenied", "Access &amp; more denied")))
    with pytest.raises(RefusedError) as caught:
        fetch_s3(server, credentials="anonymous")
    assert "no credentials (anonymous)" in (caught.value.expected or "")
    assert "Access & more denied" in (caught.value.got or "")
    assert "authorization" not in server.talks[0].headers


# --- paths -----------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "allowed").mkdir()
    path = tmp_path / "allowed" / "a b.zip"
    path.write_bytes(DATA)
    return path


def take(path: str, folder: Path, sha256: str | None = None, **options: Any) -> Any:
    allow = AllowSettings(paths=(str(folder),))
    fetcher = Fetcher(StoreSettings(max_bytes=len(DATA)), allow, None, "thing", environ={})
    return fetcher.fetch(ModelSource(path, sha256), folder / "downloads", **options)


def test_file_is_used_where_it_lies(archive: Path) -> None:
    for uri in (str(archive), archive.as_uri(), f"file://localhost{str(archive).replace(' ', '%20')}"):
        fetched = take(uri, archive.parent, SHA256)
        assert (fetched.path, fetched.sha256, fetched.size_bytes) == (archive, SHA256, len(DATA))
    assert list(archive.parent.iterdir()) == [archive]


def test_file_with_another_digest_is_refused(archive: Path) -> None:
    with pytest.raises(ArchiveRefused):
        take(str(archive), archive.parent, "0" * 64)


def test_file_elsewhere_is_refused_also_through_a_link(archive: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.zip"
    outside.write_bytes(DATA)
    link = archive.parent / "link.zip"
    link.symlink_to(outside)
    for path in (outside, link, archive.parent / ".." / "outside.zip"):
        with pytest.raises(RefusedError, match="does not take model archives from that folder") as caught:
            take(str(path), archive.parent)
        assert "allow.paths" in (caught.value.remedy or "")


def test_file_that_is_too_large_is_refused(archive: Path) -> None:
    with archive.open("ab") as file:
        file.write(b"x")
    with pytest.raises(RefusedError, match="too large"):
        take(str(archive), archive.parent)


def test_what_is_no_file_is_refused(archive: Path) -> None:
    for path in (archive.parent, archive.parent / "none.zip"):
        with pytest.raises(RefusedError, match="no model archive at this path"):
            take(str(path), archive.parent)


def test_hashing_a_file_can_be_cancelled(archive: Path) -> None:
    calls: list[int] = []
    with pytest.raises(FetchCancelled):
        take(
            str(archive),
            archive.parent,
            progress=lambda done, _: calls.append(done),
            cancelled=lambda: len(calls) > 1,
        )
    assert len(calls) == 2
