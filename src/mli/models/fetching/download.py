"""Brings one archive over the network: goes on where it stopped, and tries again while that leads on."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from mli.errors import ArchiveRefused, MliError, RefusedError
from mli.models.fetching.exchange import Answer
from mli.models.fetching.partial import Origin, Partial
from mli.models.fetching.troubles import TransferError
from mli.models.fetching.watch import Watch
from mli.models.rules import Rule, refusal

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
Trouble = Callable[[MliError], None]
_CHECK_SPACE_EVERY_BYTES = 16 * 1024 * 1024


class Remote(Protocol):
    """An archive that can be asked for over the network."""

    @property
    def shown(self) -> str:
        """Its address for messages."""

    def ask(self, headers: Mapping[str, str], watch: Watch) -> Answer:
        """The answer to a GET: 200, 206, 412 or 416; anything else is raised."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one fetch tries by itself.

    Attributes:
        attempts: that brought nothing, one after the other; then the caller is told.
        first_pause_s, longest_pause_s: before the next attempt; it doubles, and half of it is chance, so that a
            thousand devices do not come back at once.
    """

    attempts: int = 6
    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0

    def pause_s(self, failures: int, wanted_s: float) -> float:
        """Seconds before the next attempt; ``wanted_s`` is what the other end asked for."""
        full: float = min(self.longest_pause_s, self.first_pause_s * 2.0 ** max(0, failures - 1))
        return max(full * random.uniform(0.5, 1.0), min(wanted_s, self.longest_pause_s))


PATIENCE = Patience()


class _Changed(Exception):
    """What came so far is no part of what is there now."""


class Download:
    """One archive on its way into a partial file.

    Args:
        expected_sha256: lower case; None takes whatever comes.
        on_size: called with the archive's size before its first byte is kept; may raise.
        on_trouble: called with why an attempt failed, where there is another one.
    """

    def __init__(
        self,
        remote: Remote,
        partial: Partial,
        *,
        expected_sha256: str | None,
        max_bytes: int,
        patience: Patience,
        watch: Watch,
        progress: Progress,
        on_size: Callable[[int], None] | None,
        on_trouble: Trouble,
    ) -> None:
        self.resumed_from_bytes = partial.size_bytes
        self._remote = remote
        self._partial = partial
        self._expected = expected_sha256
        self._max_bytes = max_bytes
        self._patience = patience
        self._watch = watch
        self._progress = progress
        self._on_size = on_size
        self._on_trouble = on_trouble
        self._farthest = partial.size_bytes
        self._told_size = False
        self._pieced = False
        self._distrusted = False

    def run(self) -> str:
        """Until the partial file is the whole archive.

        Returns:
            its sha256, the expected one where there is one.

        Raises:
            RetryError: several attempts in a row brought nothing, or the disk is full.
            RefusedError: it is not there, too large, or another one than expected.
            StopError, FetchCancelled: see the remotes and ``Watch``.
        """
        failures = changes = 0
        while True:
            farthest = self._farthest
            try:
                if not self._is_whole():
                    self._attempt()
                return self._checked_digest()
            except _Changed as changed:
                changes += 1
                log.warning("%s: begun anew: %s", self._remote.shown, changed)
                self._begin_anew()
                if changes >= self._patience.attempts:
                    raise self._never_the_same() from None
            except TransferError as error:
                failures = 0 if self._farthest > farthest else failures + 1
                if failures >= self._patience.attempts:
                    error.got = f"{error.got}; {failures} attempts in a row brought nothing"
                    raise
                pause_s = self._patience.pause_s(failures, error.wait_s)
                log.warning("%s: %s; tried again in %.1f s", self._remote.shown, _in_short(error), pause_s)
                self._on_trouble(error)
                self._watch.pause(pause_s)

    def _is_whole(self) -> bool:
        """Whether an earlier fetch had brought all of it: with a digest to compare with, nobody need be asked."""
        size, total = self._partial.size_bytes, self._partial.origin.total_bytes
        if self._expected is None or size == 0 or total not in (None, size):
            return False
        return self._sha256() == self._expected

    def _attempt(self) -> None:
        partial = self._partial
        offset = self._offset()
        headers = {"accept-encoding": "identity", "user-agent": "mli"}
        if offset:
            headers["range"] = f"bytes={offset}-"
            if partial.origin.etag is not None:
                headers["if-match"] = partial.origin.etag
        with self._remote.ask(headers, self._watch) as answer:
            if answer.status == 412:
                raise _Changed(f"its ETag is no longer {partial.origin.etag}")
            if answer.status == 416:
                raise _Changed(f"it is shorter than {offset + 1} bytes now")
            if answer.status == 206:
                self._continue(answer, offset)
                if offset < partial.size_bytes:
                    return  # it was complete, and still is what the store has
            else:
                self._start(answer, offset)
            self._take_body(answer)

    def _offset(self) -> int:
        """Where to go on. A strong ETag, or a digest at the end, must tell a mixture of two archives."""
        partial = self._partial
        if partial.origin.etag is None and self._expected is None:
            return 0
        total = partial.origin.total_bytes
        if total is None or partial.size_bytes < total:
            return partial.size_bytes
        return max(0, total - 1) if partial.size_bytes == total else 0

    def _continue(self, answer: Answer, offset: int) -> None:
        origin = self._partial.origin
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", (answer.header("content-range") or "").strip())
        if found is None or int(found[1]) != offset:
            raise _Changed("the server's part is not the one that was asked for")
        total = None if found[3] == "*" else int(found[3])
        etag = answer.header("etag")
        if origin.total_bytes not in (None, total) or (origin.etag and etag and origin.etag != etag):
            raise _Changed("it has another size or another ETag now")
        log.info("%s: goes on at byte %d", self._remote.shown, self._partial.size_bytes)
        self._pieced = True
        self._take_size(total if total is not None else origin.total_bytes)

    def _start(self, answer: Answer, offset: int) -> None:
        if answer.status != 200:
            raise _Changed("a part was sent, and none was asked for")
        if not answer.has_end and self._expected is None:
            raise RefusedError(
                "The server does not say where the model archive ends, so a part of it would pass for the whole.",
                where=self._remote.shown,
                expected="Content-Length or chunks, or a sha256 to compare with",
                got="neither",
                remedy="name the model's sha256 in the deployment",
            )
        if offset:
            log.warning("%s: begun anew: its server cannot go on in the middle", self._remote.shown)
        etag = answer.header("etag")
        if etag is not None and (etag.startswith("W/") or not etag.isprintable()):
            etag = None  # a weak one does not say that the bytes are the same
        self.resumed_from_bytes, self._pieced = 0, False
        self._partial.begin(Origin(etag, answer.length))
        self._take_size(answer.length)

    def _take_size(self, total: int | None) -> None:
        """Everything that can be refused by size is, before its bytes come."""
        if total is None:
            return
        self._check_size(total)
        if self._on_size is not None and not self._told_size:
            self._told_size = True
            self._on_size(total)
        self._partial.check_space(total - self._partial.size_bytes)

    def _take_body(self, answer: Answer) -> None:
        partial, total = self._partial, self._partial.origin.total_bytes
        checked = partial.size_bytes
        self._progress(partial.size_bytes, total)
        while data := answer.read():
            self._watch.check()
            size = partial.size_bytes + len(data)
            self._check_size(size)
            if total is not None and size > total:
                raise _Changed(f"more than the promised {total} bytes came")
            if size - checked >= _CHECK_SPACE_EVERY_BYTES:
                partial.check_space_meanwhile(len(data))
                checked = size
            partial.append(data)
            self._farthest = max(self._farthest, size)
            self._progress(size, total)
        if total is not None and partial.size_bytes < total:
            raise TransferError(
                "The server sent a part of the model archive.",
                where=self._remote.shown,
                expected=f"{total} bytes",
                got=f"{partial.size_bytes} bytes",
                remedy="the rest is asked for",
            )

    def _check_size(self, size: int) -> None:
        try:
            check_size(size, self._max_bytes, self._remote.shown)
        except RefusedError:
            self._partial.discard()
            raise

    def _checked_digest(self) -> str:
        found = self._sha256()
        if self._expected is None or found == self._expected:
            return found
        if self._pieced and not self._distrusted:
            self._distrusted = True
            raise _Changed("the parts of several attempts do not make the expected archive")
        self._partial.discard()
        raise digest_refusal(self._remote.shown, self._expected, found)

    def _sha256(self) -> str:
        try:
            return self._partial.sha256()
        except OSError as error:
            raise _Changed(f"what came cannot be read back from the disk: {error.strerror}") from error

    def _begin_anew(self) -> None:
        self._partial.begin(Origin(None, None))
        self.resumed_from_bytes, self._pieced = 0, False

    def _never_the_same(self) -> MliError:
        return TransferError(
            "The model archive changes faster than it can be fetched.",
            where=self._remote.shown,
            expected="the same archive in every answer",
            got=f"{self._patience.attempts} different ones",
            remedy="check who writes to it, and whether several servers answer under one name",
        )


def check_size(size: int, max_bytes: int, shown: str) -> None:
    """Raises RefusedError for an archive that is larger than the device takes."""
    if size > max_bytes:
        raise RefusedError(
            "The model archive is too large for this device.",
            where=shown,
            expected=f"at most {max_bytes} bytes",
            got=f"{size} bytes, or more",
            remedy="make it smaller, or raise store.max_size of the device",
        )


def digest_refusal(shown: str, expected: str, found: str) -> ArchiveRefused:
    """The error for an archive that is not the one that the deployment names."""
    error = refusal(shown.rpartition("/")[2], Rule.DIGEST, f"sha256 {found}")
    error.where = shown
    error.expected = f"sha256 {expected}"
    return error


def _in_short(error: MliError) -> str:
    return f"{error.what} {error.got or ''}".strip()
