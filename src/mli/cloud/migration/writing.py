"""Writes what a migration gives: mli's files, the report, and a backup of everything that was read.

Running it again changes nothing; a file that would change is refused, unless that is asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mli.cloud.migration.folder import MAX_FILE_BYTES
from mli.cloud.migration.planning import Plan
from mli.cloud.migration.report import report_text
from mli.cloud.migration.retaining import retaining
from mli.cloud.migration.setup import Setup
from mli.config.deployment import read_deployment
from mli.config.device import DEVICE_FILE, read_device
from mli.errors import RetryError, UsageError

DEPLOYMENT, PARAMETERS, REPORT, SUMS = "deployment.yaml", "parameters.json", "report.md", "SHA256SUMS"
RETAIN = "retain.json"
"""The old stack's template, changed so that CloudFormation deletes the stack and nothing that it made."""
BACKUP = "backup"
_OURS = (DEPLOYMENT, DEVICE_FILE, PARAMETERS, RETAIN, REPORT)


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes, of any size.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError("the file cannot be read", where=str(path), got=error.strerror) from error


def files_of(setup: Setup, plan: Plan) -> dict[str, bytes]:
    """Name and bytes of mli's files; each was read by mli's own reader.

    Raises:
        UsageError: what was found makes no valid file.
    """
    files = {DEPLOYMENT: _yaml(plan.deployment)}
    read_deployment(files[DEPLOYMENT], DEPLOYMENT)
    if plan.device is not None:
        files[DEVICE_FILE] = _yaml(plan.device)
        _check_device(files[DEVICE_FILE], setup)
    if plan.parameters is not None:
        # Both editions of the AWS CLI take this form after --parameter-overrides file://
        pairs = [f"{name}={value}" for name, value in plan.parameters.items()]
        files[PARAMETERS] = (json.dumps(pairs, indent=2) + "\n").encode()
    if setup.processed is not None:
        files[RETAIN] = retaining(setup.processed)
    return files


def _yaml(value: dict[str, Any]) -> bytes:
    head = f"# made by `mli migrate`; what was carried over, and what was not, stands in {REPORT}\n"
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
    return (head + text).encode()


def _check_device(text: bytes, setup: Setup) -> None:
    """Alone, and beside the config.json that it adds to."""
    found = setup.on_device
    with tempfile.TemporaryDirectory(prefix="mli-migrate-") as folder:
        path = Path(folder) / DEVICE_FILE
        path.write_bytes(text)
        if found is None:
            read_device(Path(folder))
        elif found.config_problems is None:
            read_device(found.root, str(path))


def write(
    setup: Setup, plan: Plan, out: Path, *, overwrite: bool = False, dry_run: bool = False
) -> tuple[list[str], dict[str, str]]:
    """Write everything below ``out``.

    Returns:
        names of mli's files, and name and sha256 of each file in the backup.

    Raises:
        UsageError: a file is there and says something else, or the place will not do.
        RetryError: the disk does not take it.
    """
    _check_place(setup, out)
    files = files_of(setup, plan)
    backup = {name: hashlib.sha256(_bytes_of(path)).hexdigest() for path, name in setup.files}
    files[REPORT] = report_text(setup, plan, backup, list(files)).encode()
    sums = "".join(f"{digest}  {name}\n" for name, digest in backup.items()).encode()
    kept = {f"{BACKUP}/{name}": digest for name, digest in backup.items()}
    wanted = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()} | kept
    wanted[f"{BACKUP}/{SUMS}"] = hashlib.sha256(sums).hexdigest()
    _check_target(out, wanted, overwrite)
    if not dry_run:
        try:
            _write_all(setup, out, files, sums)
        except OSError as error:
            raise RetryError(
                "the files cannot be written",
                where=str(error.filename or out),
                got=error.strerror or str(error),
                remedy="check the disk and who may write there; then the same command again",
            ) from error
    return list(files), backup


def _check_place(setup: Setup, out: Path) -> None:
    source = setup.source.resolve()
    folder = source if source.is_dir() else None
    if folder is not None and out.resolve().is_relative_to(folder):
        raise UsageError(
            "the folder to write lies in the one that is read, which stays as it is",
            where=str(out),
            remedy="-o DIR names another place",
        )
    if out.exists() and not out.is_dir():
        raise UsageError("this is no folder", where=str(out), remedy="-o DIR names one")


def _check_target(out: Path, wanted: dict[str, str], overwrite: bool) -> None:
    if overwrite:
        return
    other = [
        name
        for name, digest in wanted.items()
        if os.path.lexists(out / name) and not ((out / name).is_file() and file_sha256(out / name) == digest)
    ]
    other += [name for name in _OURS if name not in wanted and os.path.lexists(out / name)]
    if other:
        more = f" and {len(other) - 4} more" if len(other) > 4 else ""
        raise UsageError(
            "files are there already, and would change",
            where=str(out),
            got=", ".join(other[:4]) + more,
            remedy="-o DIR writes elsewhere, --force replaces them",
        )


def _write_all(setup: Setup, out: Path, files: dict[str, bytes], sums: bytes) -> None:
    backup = out / BACKUP
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    _own_folder(backup)
    backup.chmod(0o700)
    for path, name in setup.files:
        place = backup / name
        for parent in reversed(place.relative_to(backup).parents[:-1]):
            _own_folder(backup / parent)
        _replace(place, 0o600, lambda path=path: _bytes_of(path))  # type: ignore[misc]
    _replace(backup / SUMS, 0o600, lambda: sums)
    for name in _OURS:
        if name in files:
            mode = 0o600 if name == RETAIN else 0o644  # the template's texts, a function's secrets among them
            _replace(out / name, mode, lambda data=files[name]: data)  # type: ignore[misc]
        else:
            (out / name).unlink(missing_ok=True)


def _own_folder(path: Path) -> None:
    """Make a folder, unless it is there; keys do not follow links to elsewhere."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink():
        raise UsageError("a link is in the place of a folder", where=str(path), remedy="-o DIR names another place")


def _bytes_of(path: Path) -> bytes:
    """A regular file's bytes; a link that took its place meanwhile is not followed.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError("this is no regular file", where=str(path))
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"the file cannot be read: {error.strerror}",
            where=str(path),
            remedy="a device's keys may be read by root alone: sudo mli migrate …",
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise UsageError("the file is too large", where=str(path), expected=f"at most {MAX_FILE_BYTES:,} bytes")
    return data


def _replace(path: Path, mode: int, data: Callable[[], bytes]) -> None:
    """Write beside and rename, so that no half of a file ever has its name."""
    content = data()
    if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
        path.chmod(mode)
        return
    temporary = path.with_name(f".{path.name[:100]}-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
