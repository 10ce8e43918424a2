"""A model archive goes into a bucket, under a key that its own digest is part of.

The bytes that are sent are hashed while they are read: an archive that is no longer the one that was verified never
becomes an object.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mli.cloud.aws import Aws
from mli.cloud.model_store import ModelStore
from mli.cloud.stack_state import look_at_stack
from mli.cloud.troubles import code_of
from mli.errors import RefusedError, RetryError, UsageError

Progress = Callable[[int, int], None]

_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")
_NO_URI = re.compile(r"""[\x00-\x20"'\\{}\x7f-\xa0]""")
"""What the parameter ModelS3Uri of a device's stack does not take."""
_LONGEST_PREFIX_BYTES = 600
"""A key has at most 1,024, of which digest and name take up to 330."""
_MOST_PARTS = 10_000
_PART_BYTES = 8 * 1024 * 1024
"""S3 takes parts of 5 MiB and more."""
_AT_ONCE = 4
_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an archive goes."""

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Archive:
    """A verified archive on this machine.

    Attributes:
        sha256: of its bytes, lower hexadecimal.
    """

    path: Path
    sha256: str
    size_bytes: int


def parse_destination(text: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://BUCKET[/PREFIX]``.

    Raises:
        UsageError: it is no such address.
    """
    parts = _URI.fullmatch(text)
    prefix = (parts["prefix"] or "").strip("/") if parts else ""
    if parts is None or "//" in prefix:
        raise UsageError("this names no place in S3", expected="s3://BUCKET or s3://BUCKET/PREFIX", got=text)
    if _NO_URI.search(prefix) or len(prefix.encode()) > _LONGEST_PREFIX_BYTES:
        raise UsageError(
            "a device's stack could not name a model with this prefix",
            expected=f"at most {_LONGEST_PREFIX_BYTES} bytes, without spaces, quotes, backslashes and curly brackets",
            got=text,
        )
    return parts["bucket"], prefix


def model_bucket(aws: Aws, stack_name: str) -> str:
    """The bucket that the shared stack has for models.

    Raises:
        RefusedError: there is no such stack, or it names no bucket.
        MliError: AWS did not answer, or a right is missing.
    """
    stack = look_at_stack(aws, stack_name)
    bucket = stack.outputs.get("ModelBucket") if stack is not None else None
    if bucket:
        return bucket
    raise RefusedError(
        f"The stack {stack_name} names no bucket for models in {aws.region}.",
        got="there is no such stack" if stack is None else f"it is {stack.status}",
        remedy="mli stack deploy --shared makes one; or name a bucket: s3://BUCKET",
    )


def key_of(prefix: str, archive: Archive) -> str:
    """``PREFIX/models/<sha256>/<name>``; what a key should not hold becomes a ``-``."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", archive.path.name)
    return "/".join([*([prefix] if prefix else []), "models", archive.sha256, name])


def is_there(store: ModelStore, place: Place, archive: Archive) -> bool:
    """Whether the bucket holds this very archive already.

    Raises:
        MliError: S3 did not answer, or a right is missing.
    """
    head = _head(store, place)
    if head is None:
        return False
    return (_sha256_in(head), int(head["ContentLength"])) == (archive.sha256, archive.size_bytes)


def upload(store: ModelStore, place: Place, archive: Archive, progress: Progress) -> None:
    """Send the archive, and see that it has arrived.

    Raises:
        RefusedError: the archive changed since it was verified; nothing of it was kept.
        RetryError: the archive cannot be read, or did not arrive whole.
        MliError: S3 did not answer, or a right is missing.
    """
    sender = _Sender(store, place, archive, progress)
    with store.asking(f"to keep {place.uri}"):
        if archive.size_bytes <= _PART_BYTES:
            sender.send_whole()
        else:
            sender.send_parts()
    head = _head(store, place)
    if head is None or (_sha256_in(head), int(head["ContentLength"])) != (archive.sha256, archive.size_bytes):
        raise RetryError(
            "The archive did not arrive as it was sent.",
            where=place.uri,
            expected=f"{archive.size_bytes:,} bytes, sha256 {archive.sha256}",
            got="nothing"
            if head is None
            else f"{head['ContentLength']:,} bytes, sha256 {_sha256_in(head) or 'unsaid'}",
            remedy="the same command again",
        )


class _Sender:
    """One upload."""

    def __init__(self, store: ModelStore, place: Place, archive: Archive, progress: Progress) -> None:
        self._client = store.s3
        self._archive = archive
        self._progress = progress
        self._where = {"Bucket": place.bucket, "Key": place.key, **store.owner}
        self._metadata = {"sha256": archive.sha256}

    def send_whole(self) -> None:
        data = b"".join(self._pieces(_PART_BYTES))
        self._client.put_object(**self._where, Body=data, Metadata=self._metadata, ChecksumSHA256=_checksum(data))
        self._progress(len(data), len(data))

    def send_parts(self) -> None:
        told = self._client.create_multipart_upload(
            **self._where, Metadata=self._metadata, ChecksumAlgorithm="SHA256"
        )
        upload = {**self._where, "UploadId": told["UploadId"]}
        try:
            parts = self._parts(upload)
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:  # Ctrl-C too: parts that nobody puts together cost money every day
            self._abort(upload)
            raise

    def _parts(self, upload: dict[str, str]) -> list[dict[str, Any]]:
        """Send a few parts at a time; the archive is read in order, no faster than it is sent."""
        size = max(_PART_BYTES, -(-self._archive.size_bytes // _MOST_PARTS))
        lanes = _Lanes(self._client, upload)
        try:
            for number, data in enumerate(self._pieces(size), 1):
                if lanes.are_full:
                    self._progress(lanes.next_sent(), self._archive.size_bytes)
                lanes.send(number, data)
            while lanes.are_busy:
                self._progress(lanes.next_sent(), self._archive.size_bytes)
        finally:
            lanes.end()
        return lanes.sent

    def _pieces(self, size: int) -> Iterator[bytes]:
        """The archive in pieces; the last one only if all were the archive that was verified."""
        path, digest, count = self._archive.path, hashlib.sha256(), 0
        held: bytes | None = None
        try:
            with path.open("rb") as file:
                while count <= self._archive.size_bytes and (data := file.read(size)):
                    digest.update(data)
                    count += len(data)
                    if held is not None:
                        yield held
                    held = data
        except OSError as error:
            raise RetryError(
                "The archive cannot be read.", where=str(path), got=error.strerror or str(error)
            ) from error
        if (digest.hexdigest(), count) != (self._archive.sha256, self._archive.size_bytes):
            raise RefusedError(
                "The archive was changed while it was uploaded; nothing of it was kept.",
                where=str(path),
                expected=f"sha256 {self._archive.sha256}, as it was verified",
                got=f"sha256 {digest.hexdigest()}",
                remedy="let whatever writes it finish; then the same command again",
            )
        if held is not None:
            yield held

    def _abort(self, upload: dict[str, str]) -> None:
        """What cannot be taken back now, the bucket's own rule takes back after some days."""
        with contextlib.suppress(ClientError, BotoCoreError):
            self._client.abort_multipart_upload(**upload)


class _Lanes:
    """Threads that send parts; they end with the process, whatever they wait for."""

    def __init__(self, client: Any, upload: dict[str, str]) -> None:
        self._client = client
        self._upload = upload
        self._given_up = threading.Event()
        self._todo: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[dict[str, Any], int] | Exception] = queue.SimpleQueue()
        self._under_way = self._sent_bytes = 0
        self._sent: list[dict[str, Any]] = []
        self._threads = [threading.Thread(target=self._work, name="model-part", daemon=True) for _ in range(_AT_ONCE)]
        for thread in self._threads:
            thread.start()

    @property
    def are_busy(self) -> bool:
        return self._under_way > 0

    @property
    def are_full(self) -> bool:
        return self._under_way >= _AT_ONCE

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The parts, as S3 wants them named at the end."""
        return sorted(self._sent, key=lambda part: int(part["PartNumber"]))

    def send(self, number: int, data: bytes) -> None:
        self._under_way += 1
        self._todo.put((number, data))

    def next_sent(self) -> int:
        """Wait for a part; how many bytes have been sent.

        Raises:
            ClientError, BotoCoreError: that part cannot be sent.
        """
        done = self._done.get()
        self._under_way -= 1
        if isinstance(done, Exception):
            raise done
        self._sent.append(done[0])
        self._sent_bytes += done[1]
        return self._sent_bytes

    def end(self) -> None:
        """No more parts; those that are under way get a moment to notice."""
        self._given_up.set()
        for _ in self._threads:
            self._todo.put(None)
        until = time.monotonic() + _PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while (todo := self._todo.get()) is not None and not self._given_up.is_set():
            number, data = todo
            checksum = _checksum(data)
            try:
                told = self._client.upload_part(
                    **self._upload, PartNumber=number, Body=_Body(data, self._given_up), ChecksumSHA256=checksum
                )
            except (ClientError, BotoCoreError) as error:
                self._done.put(error)
            else:
                part = {"PartNumber": number, "ETag": told["ETag"], "ChecksumSHA256": checksum}
                self._done.put((part, len(data)))


class _Body(io.BytesIO):
    """A part's bytes, which end at once when the upload is given up."""

    def __init__(self, data: bytes, given_up: threading.Event) -> None:
        super().__init__(data)
        self._given_up = given_up

    def read(self, size: int | None = -1, /) -> bytes:
        if self._given_up.is_set():
            raise OSError("the upload was given up")
        return super().read(size)


def _head(store: ModelStore, place: Place) -> Any:
    """What the bucket says of the object; None where it is not there."""
    with store.asking(f"for {place.uri}"):
        try:
            return store.s3.head_object(Bucket=place.bucket, Key=place.key, **store.owner)
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchKey", "NotFound"):
                return None
            raise


def _sha256_in(head: Any) -> str:
    return str(head.get("Metadata", {}).get("sha256", "")).lower()


def _checksum(data: bytes) -> str:
    """sha256 in S3's spelling."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
