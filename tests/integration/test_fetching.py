"""Model archives from a real S3 server: right and wrong credentials, regions and names, and what a kill leaves."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.brokers import ROOT
from tests.fixtures.swift_server import ACCESS_KEY, REGION, SECRET_KEY, SwiftServer
from tests.unit.models.model_files import make_zip

from mli.config.settings import ModelSource
from mli.errors import ArchiveRefused, MliError, RefusedError, RetryError, StopError
from mli.models.fetching.download import Patience
from mli.models.fetching.fetcher import Fetcher
from mli.models.fetching.partial import remove_partials
from mli.models.fetching.watch import FetchCancelled
from mli.models.repository import Repository

MEBIBYTE = 1024 * 1024
QUICK = Patience(attempts=8, first_pause_s=0.05, longest_pause_s=0.4)


def some_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetcher(swift: SwiftServer, **changes: Any) -> Fetcher:
    return Fetcher(swift.settings(**changes), None, None, "thing", patience=QUICK, environ={})


def failure(caught: pytest.ExceptionInfo[MliError]) -> MliError:
    """The error, after the check that it shows no secret and no signature."""
    text = f"{caught.value} {caught.value.to_json()}"
    assert SECRET_KEY not in text
    assert "Signature=" not in text
    assert "StringToSign" not in text
    assert caught.value.remedy
    return caught.value


class Half:
    """Cancels a fetch once so many bytes came."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._reached = False

    def progress(self, done: int, _total: int | None) -> None:
        self._reached = self._reached or done >= self._at

    def cancelled(self) -> bool:
        return self._reached


def fetch_half(swift: SwiftServer, source: ModelSource, folder: Path, at: int) -> None:
    half = Half(at)
    with pytest.raises(FetchCancelled):
        fetcher(swift).fetch(source, folder, progress=half.progress, cancelled=half.cancelled)


# --- what comes ------------------------------------------------------------------------------------------------


def test_archive_comes_with_its_digest(swift: SwiftServer, tmp_path: Path) -> None:
    data = some_bytes(3 * MEBIBYTE)
    uri = swift.put("kept here/modèl+1 & more?.zip", data)
    told: list[tuple[int, int | None]] = []
    sizes: list[int] = []
    fetched = fetcher(swift).fetch(
        ModelSource(uri, digest(data).upper()),
        tmp_path,
        progress=lambda done, total: told.append((done, total)),
        on_size=sizes.append,
    )
    assert fetched.path.read_bytes() == data
    assert (fetched.sha256, fetched.size_bytes, fetched.resumed_from_bytes) == (digest(data), len(data), 0)
    assert told[0] == (0, len(data))
    assert told[-1] == (len(data), len(data))
    assert sizes == [len(data)]
    assert fetched.path.name == "mod_l_1_more_.zip"
    assert fetched.path.parent.stat().st_mode & 0o077 == 0
    assert ACCESS_KEY in fetched.told
    assert SECRET_KEY not in fetched.told


def test_fetched_archive_is_installed_without_another_look_at_its_digest(swift: SwiftServer, tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "pets.zip", {"model.onnx": b"weights" * 1000, "labels.txt": b"cat\ndog\n"})
    fetched = fetcher(swift).fetch(ModelSource(swift.put("pets.zip", archive.read_bytes())), tmp_path)
    done: list[int] = []
    repository = Repository(tmp_path / "root")
    spec = repository.install(
        fetched.path, fetched.sha256, hashed=fetched.stamp, progress=lambda now, _: done.append(now)
    )
    assert spec.sha256 == digest(archive.read_bytes())
    assert done[0] == fetched.size_bytes


def test_empty_object_comes_too(swift: SwiftServer, tmp_path: Path) -> None:
    fetched = fetcher(swift).fetch(ModelSource(swift.put("empty.zip", b"")), tmp_path)
    assert (fetched.size_bytes, fetched.sha256) == (0, digest(b""))


def test_complete_archive_is_not_fetched_again(swift: SwiftServer, tmp_path: Path) -> None:
    data = some_bytes(MEBIBYTE)
    source = ModelSource(swift.put("twice.zip", data), digest(data))
    fetcher(swift).fetch(source, tmp_path)
    again = fetcher(swift, endpoint="http://127.0.0.1:9").fetch(source, tmp_path)
    assert again.path.read_bytes() == data
    assert again.resumed_from_bytes == len(data)


def test_complete_archive_without_a_digest_is_compared_by_its_etag(swift: SwiftServer, tmp_path: Path) -> None:
    source = ModelSource(swift.put("pinned-later.zip", b"first"))
    assert fetcher(swift).fetch(source, tmp_path).resumed_from_bytes == 0
    assert fetcher(swift).fetch(source, tmp_path).resumed_from_bytes == 5
    swift.put("pinned-later.zip", b"other")
    fetched = fetcher(swift).fetch(source, tmp_path)
    assert (fetched.path.read_bytes(), fetched.resumed_from_bytes) == (b"other", 0)


def test_wrong_region_is_followed(swift: SwiftServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data = some_bytes(1000)
    source = ModelSource(swift.put("far.zip", data), region="us-west-2")
    fetched = fetcher(swift).fetch(source, tmp_path)
    assert fetched.path.read_bytes() == data
    assert f"region {REGION}" in fetched.told
    assert f"lies in the region {REGION}, not in us-west-2" in caplog.text


# --- what is refused -------------------------------------------------------------------------------------------


def test_another_digest_is_refused_with_both(swift: SwiftServer, tmp_path: Path) -> None:
    source = ModelSource(swift.put("another.zip", b"some bytes"), "0" * 64)
    with pytest.raises(ArchiveRefused) as caught:
        fetcher(swift).fetch(source, tmp_path)
    assert failure(caught).expected == "sha256 " + "0" * 64
    assert failure(caught).got == f"sha256 {digest(b'some bytes')}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changes", [{"secret_access_key": "wrong"}, {"access_key_id": "test:nobody"}])
def test_wrong_keys_are_the_devices_fault(swift: SwiftServer, tmp_path: Path, changes: dict[str, str]) -> None:
    source = ModelSource(swift.put("kept.zip", b"some bytes"))
    with pytest.raises(StopError, match="does not accept this device's credentials") as caught:
        fetcher(swift, **changes).fetch(source, tmp_path)
    assert "SignatureDoesNotMatch" in (failure(caught).got or "")
    assert "keys of the device's settings" in (failure(caught).expected or "")


def test_user_without_access_is_told_what_to_allow(swift: SwiftServer, tmp_path: Path) -> None:
    source = ModelSource(swift.put("kept.zip", b"some bytes"))
    with pytest.raises(RefusedError, match="may not be read") as caught:
        fetcher(swift, access_key_id="test:guest", secret_access_key="guest-secret").fetch(source, tmp_path)
    assert "AccessDenied" in (failure(caught).got or "")
    assert "test:guest" in (failure(caught).expected or "")
    assert "s3:GetObject on arn:aws:s3:::models/kept.zip" in (failure(caught).remedy or "")


@pytest.mark.parametrize(
    ("uri", "says"),
    [("s3://models/no/such.zip", "no such model archive"), ("s3://nowhere/a.zip", "no bucket nowhere")],
)
def test_what_is_not_there_is_refused(swift: SwiftServer, tmp_path: Path, uri: str, says: str) -> None:
    with pytest.raises(RefusedError, match=says) as caught:
        fetcher(swift).fetch(ModelSource(uri), tmp_path)
    assert "404" in (failure(caught).got or "")


def test_larger_than_the_device_allows_is_refused(swift: SwiftServer, tmp_path: Path) -> None:
    source = ModelSource(swift.put("large.zip", some_bytes(2000)))
    with pytest.raises(RefusedError, match="too large") as caught:
        fetcher(swift, max_bytes=1999).fetch(source, tmp_path)
    assert failure(caught).expected == "at most 1999 bytes"
    assert not list(tmp_path.iterdir())


def test_wrong_clock_is_named(swift: SwiftServer, tmp_path: Path) -> None:
    source = ModelSource(swift.put("kept.zip", b"some bytes"))
    late = Fetcher(
        swift.settings(), None, None, "thing", environ={}, now=lambda: datetime.now(UTC) - timedelta(hours=2)
    )
    with pytest.raises(RetryError, match="clock is wrong") as caught:
        late.fetch(source, tmp_path)
    assert "NTP" in (failure(caught).remedy or "")


def test_store_without_tls_is_told(swift: SwiftServer, tmp_path: Path) -> None:
    with pytest.raises(RetryError, match="TLS connection") as caught:
        fetcher(swift, endpoint=swift.endpoint.replace("http:", "https:")).fetch(
            ModelSource("s3://models/k"), tmp_path
        )
    assert "is one of https" in (failure(caught).remedy or "")


def test_the_caller_may_refuse_the_size(swift: SwiftServer, tmp_path: Path) -> None:
    source = ModelSource(swift.put("kept.zip", b"some bytes"))

    def no_room(_size: int) -> None:
        raise RetryError("no room for both versions")

    with pytest.raises(RetryError, match="for both versions"):
        fetcher(swift).fetch(source, tmp_path, on_size=no_room)


# --- going on --------------------------------------------------------------------------------------------------


def test_download_goes_on_after_the_store_was_killed(
    own_swift: SwiftServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data = some_bytes(32 * MEBIBYTE)
    source = ModelSource(own_swift.put("long.zip", data), digest(data))
    killed: list[int] = []

    def progress(done: int, _total: int | None) -> None:
        if done >= 4 * MEBIBYTE and not killed:
            killed.append(done)
            own_swift.kill()
            own_swift.start()

    fetched = fetcher(own_swift).fetch(source, tmp_path / "downloads", progress=progress)
    assert fetched.path.read_bytes() == data
    went_on = [record.args for record in caplog.records if "goes on at byte" in record.message]
    assert went_on
    assert all(args and int(str(args[1])) >= killed[0] for args in went_on if isinstance(args, tuple))


@contextmanager
def child(swift: SwiftServer, source: ModelSource, folder: Path, pause_at: int | None) -> Iterator[Any]:
    task = {
        "store": asdict(swift.settings()),
        "uri": source.uri,
        "sha256": source.sha256,
        "folder": str(folder),
        "pause_at": pause_at,
    }
    command = [sys.executable, "-m", "tests.fixtures.fetch_child", json.dumps(task)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_download_goes_on_after_its_process_was_killed(swift: SwiftServer, tmp_path: Path) -> None:
    data = some_bytes(12 * MEBIBYTE)
    source = ModelSource(swift.put("killed.zip", data), digest(data))
    for pause_at in (3 * MEBIBYTE, 7 * MEBIBYTE):
        with child(swift, source, tmp_path, pause_at) as process:
            assert int(process.stdout.readline().removeprefix("at ")) >= pause_at
    with child(swift, source, tmp_path, None) as process:
        word, sha256, resumed = process.stdout.readline().split()
    assert (word, sha256) == ("done", digest(data))
    assert int(resumed) >= 7 * MEBIBYTE


def test_cancelled_download_goes_on_later(swift: SwiftServer, tmp_path: Path) -> None:
    data = some_bytes(8 * MEBIBYTE)
    source = ModelSource(swift.put("later.zip", data), digest(data))
    fetch_half(swift, source, tmp_path, 3 * MEBIBYTE)
    told: list[int] = []
    fetched = fetcher(swift).fetch(source, tmp_path, progress=lambda done, _: told.append(done))
    assert fetched.path.read_bytes() == data
    assert 3 * MEBIBYTE <= told[0] == fetched.resumed_from_bytes < len(data)


def test_changed_object_is_begun_anew(swift: SwiftServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = ModelSource(swift.put("changing.zip", some_bytes(8 * MEBIBYTE)))
    fetch_half(swift, source, tmp_path, 3 * MEBIBYTE)
    newer = some_bytes(8 * MEBIBYTE, seed=2)
    swift.put("changing.zip", newer)
    fetched = fetcher(swift).fetch(source, tmp_path)
    assert fetched.path.read_bytes() == newer
    assert fetched.resumed_from_bytes == 0
    assert "begun anew: its ETag is no longer" in caplog.text


def test_changed_object_is_not_the_one_of_the_deployment(swift: SwiftServer, tmp_path: Path) -> None:
    older, newer = some_bytes(8 * MEBIBYTE), some_bytes(4 * MEBIBYTE, seed=2)
    source = ModelSource(swift.put("changed.zip", older), digest(older))
    fetch_half(swift, source, tmp_path, 3 * MEBIBYTE)
    swift.put("changed.zip", newer)
    with pytest.raises(ArchiveRefused) as caught:
        fetcher(swift).fetch(source, tmp_path)
    assert (caught.value.expected, caught.value.got) == (f"sha256 {digest(older)}", f"sha256 {digest(newer)}")


@pytest.mark.parametrize("damage", ["flipped", "longer", "no record", "cut record"])
def test_damaged_partial_file_costs_one_more_download(swift: SwiftServer, tmp_path: Path, damage: str) -> None:
    data = some_bytes(6 * MEBIBYTE)
    source = ModelSource(swift.put("damaged.zip", data), digest(data))
    fetch_half(swift, source, tmp_path, 3 * MEBIBYTE)
    (part,) = tmp_path.glob("*/.part")
    record = part.with_name(".part.json")
    if damage == "flipped":
        with part.open("r+b") as file:
            file.seek(1000)
            file.write(bytes([data[1000] ^ 1]))
    elif damage == "longer":
        with part.open("ab") as file:
            file.write(bytes(8 * MEBIBYTE))
    elif damage == "no record":
        record.unlink()
    else:
        record.write_bytes(record.read_bytes()[:20])
    fetched = fetcher(swift).fetch(source, tmp_path)
    assert fetched.path.read_bytes() == data
    assert fetched.resumed_from_bytes == 0


def test_disk_that_gets_full_gives_the_room_back(swift: SwiftServer, tmp_path: Path) -> None:
    """The disk says ENOSPC to a write in the middle, as the kernel does."""
    data = some_bytes(6 * MEBIBYTE)
    source = ModelSource(swift.put("full.zip", data), digest(data))
    task = {
        "store": asdict(swift.settings()),
        "uri": source.uri,
        "sha256": source.sha256,
        "folder": str(tmp_path / "downloads"),
        "pause_at": None,
    }
    part = tmp_path / "downloads" / hashlib.sha256(source.uri.encode()).hexdigest()[:32] / ".part"
    strace = ["strace", "-f", "-o", str(tmp_path / "calls"), "-P", str(part)]
    strace += ["-e", "trace=write", "-e", "inject=write:error=ENOSPC:when=3+"]
    command = [*strace, sys.executable, "-m", "tests.fixtures.fetch_child", json.dumps(task)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("failed RetryError ENOSPC"), result.stdout + result.stderr
    assert not list((tmp_path / "downloads").iterdir())


def test_downloads_that_nobody_wants_are_removed(swift: SwiftServer, tmp_path: Path) -> None:
    wanted, other = (ModelSource(swift.put(name, some_bytes(4 * MEBIBYTE))) for name in ("wanted.zip", "other.zip"))
    for source in (wanted, other):
        fetch_half(swift, source, tmp_path, MEBIBYTE)
    assert len(list(tmp_path.iterdir())) == 2
    remove_partials(tmp_path, keep=[wanted])
    assert len(list(tmp_path.iterdir())) == 1
    assert fetcher(swift).fetch(wanted, tmp_path).resumed_from_bytes >= MEBIBYTE
    remove_partials(tmp_path)
    assert not list(tmp_path.iterdir())
