"""Model archives from a real S3 server."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from mli.config.settings import ModelSource
from mli.errors import ArchiveRefused
from mli.models.fetching.fetcher import Fetcher
from tests.fixtures.swift_server import SwiftServer

MEBIBYTE = 1024 * 1024


def some_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_archive_comes_with_its_digest(swift: SwiftServer, tmp_path: Path) -> None:
    data = some_bytes(3 * MEBIBYTE)
    uri = swift.put("kept here/modèl+1.zip", data)
    told: list[tuple[int, int | None]] = []
    fetched = Fetcher(swift.settings(), None, None, "thing").fetch(
        ModelSource(uri), tmp_path, progress=lambda done, total: told.append((done, total))
    )
    assert fetched.path.read_bytes() == data
    assert fetched.sha256 == hashlib.sha256(data).hexdigest()
    assert told[0] == (0, len(data))
    assert told[-1] == (len(data), len(data))
    assert fetched.path.name == "mod_l_1.zip"


def test_another_digest_is_refused_with_both(swift: SwiftServer, tmp_path: Path) -> None:
    uri = swift.put("another.zip", b"some bytes")
    with pytest.raises(ArchiveRefused) as caught:
        Fetcher(swift.settings(), None, None, "thing").fetch(ModelSource(uri, "0" * 64), tmp_path)
    assert caught.value.expected == "sha256 " + "0" * 64
    assert caught.value.got == f"sha256 {hashlib.sha256(b'some bytes').hexdigest()}"
    assert not list(tmp_path.iterdir())
