"""An archive of 300 MB: from a real S3 server to the disk with its digest, and from the disk into the repository.

Each step is a process of its own, and what it is compared with runs beside it in turns: a bare download of the same
object, ``zipfile`` and ``fsync`` of the same archive. ``python -m benchmarks.fetch_speed`` measures this alone.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from mli.config.settings import ModelSource, StoreSettings
from mli.models.fetching.credentials import Credentials
from mli.models.fetching.fetcher import Fetcher
from mli.models.fetching.signing import signed_headers
from mli.models.opened import FileStamp
from mli.models.repository import Repository

MEGABYTE = 1_000_000
BUCKET, KEY = "models", "archive.zip"
_BUFFER_BYTES = 1024 * 1024


def compare_fetching(folder: Path, rounds: int, megabytes: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All rounds, as JSON values."""
    from tests.fixtures.swift_server import SwiftServer

    found: dict[str, Any] = {"megabytes": megabytes}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        stored = _make_archive(place / "stored.zip", megabytes, zipfile.ZIP_STORED)
        deflated = _make_archive(place / "deflated.zip", megabytes, zipfile.ZIP_DEFLATED)
        (place / "swift").mkdir()
        server = SwiftServer(place / "swift")
        server.start()
        try:
            server.make_bucket(BUCKET)
            server.put(KEY, stored.read_bytes(), BUCKET)
            store = asdict(server.settings(region="eu-central-1"))
            say(f"Fetching {megabytes} MB")
            found["download"] = [
                {"plain": _run("bare", place, store=store), "mli": _run("fetch", place, store=store)}
                for _ in range(rounds)
            ]
        finally:
            server.kill()
        for archive in (stored, deflated):
            say(f"Installing {archive.name}")
            found[archive.stem] = [
                {
                    "plain": _run("unpack", place, archive=str(archive)),
                    "mli": _run("install", place, archive=str(archive)),
                }
                for _ in range(rounds)
            ]
    return found


def _make_archive(path: Path, megabytes: int, method: int) -> Path:
    """Weights as a real model has them: random when stored; deflated to 0.9 of their size otherwise."""
    weights = np.random.default_rng(1).standard_normal(megabytes * MEGABYTE // 4).astype(np.float32).tobytes()
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("model.onnx", weights)
        file.writestr("labels.txt", "cat\ndog\n")
    return path


def _run(step: str, folder: Path, **options: Any) -> dict[str, float]:
    """One step in a fresh process on an idle disk: its seconds, and the memory that it took on top, MB."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        os.sync()
        command = [sys.executable, "-m", "benchmarks.fetch_speed", step, work, json.dumps(options)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(result.stdout)
    return answer


def _bare(work: Path, store: dict[str, Any]) -> float:
    """What one would write by hand: a signed request and a loop."""
    host, path = urlsplit(store["endpoint"]).netloc, f"/{BUCKET}/{KEY}"
    keys = Credentials(store["access_key_id"], store["secret_access_key"])
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    started = time.perf_counter()
    connection = http.client.HTTPConnection(host)
    connection.request("GET", path, headers=signed_headers("GET", host, path, keys, store["region"]))
    response = connection.getresponse()
    assert response.status == 200, response.status
    with open(work / "archive.zip", "wb", buffering=0) as file:
        while count := response.readinto(buffer):
            file.write(buffer[:count])
    return time.perf_counter() - started


def _fetch(work: Path, store: dict[str, Any]) -> float:
    started = time.perf_counter()
    Fetcher(StoreSettings(**store), None, None, "bench", environ={}).fetch(ModelSource(f"s3://{BUCKET}/{KEY}"), work)
    return time.perf_counter() - started


def _unpack(work: Path, archive: str) -> float:
    started = time.perf_counter()
    with zipfile.ZipFile(archive) as file:
        file.extractall(work)
    for path in (*work.iterdir(), work):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return time.perf_counter() - started


def _install(work: Path, archive: str) -> float:
    """As after a fetch, which knows the digest."""
    path = Path(archive)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    repository, stamp = Repository(work), FileStamp.of(path.stat())
    started = time.perf_counter()
    repository.install(path, sha256, hashed=stamp)
    return time.perf_counter() - started


def _take_pages(path: Path) -> None:
    """Memory for files, taken and given back: on a virtual machine its first use is slow, whoever has it."""
    with path.open("wb", buffering=0) as file:
        for _ in range(500):
            file.write(bytes(_BUFFER_BYTES))
    path.unlink()


def _memory_mb(name: str) -> float:
    """``VmRSS``, now, or ``VmHWM``, the most so far, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / MEGABYTE


def main() -> None:
    """One step in this process, as ``_run`` wants it; without arguments, everything."""
    if len(sys.argv) == 1:
        from benchmarks.report import fetch_table

        with tempfile.TemporaryDirectory(prefix="mli-bench-") as name:
            print(fetch_table(compare_fetching(Path(name), 7, 300, lambda text: print(text, file=sys.stderr))))
        return
    step, work, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    _take_pages(work / "warm")
    before = _memory_mb("VmRSS")
    steps: dict[str, Callable[..., float]] = {"bare": _bare, "fetch": _fetch, "unpack": _unpack, "install": _install}
    seconds = steps[step](work, **options)
    print(json.dumps({"seconds": seconds, "extra_mb": max(0.0, _memory_mb("VmHWM") - before)}))


if __name__ == "__main__":
    main()
