"""Who owns what in a device's folder: the service reads its configuration, writes its state, and has nothing else.

Root walks here through folders that the service may write, so no name is trusted: each is opened without following
links, and changed through what was opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mli.core.service.account import Account
from mli.core.service.change import Change
from mli.core.service.unit import ROOT_MODE
from mli.errors import StopError

READ = ("config", "certs", "device.yaml", "deployment.yaml")
SECRETS = ("secrets",)
STATE = (
    *("models", "cache", "downloads", "deployments", "log"),
    *("spool.db", "spool.db-wal", "spool.db-shm", "core.sock", ".lock"),
)
_READ_FOLDER, _READ_FILE, _SECRET_FILE, _OWNER_ALONE = 0o750, 0o640, 0o400, 0o7700
_LONGEST_KEY_BYTES = 64 * 1024
_SHOWN = 4
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOBODY_YET = Account("the new user", -2, -2)

Right = tuple[int, int, int]
"""Owner, group and mode that an entry should have."""
Order = Callable[[os.stat_result, Callable[[], bool]], Right | None]
"""What is right for an entry, which can be asked whether it is a private key; None leaves it alone."""


def folder_changes(root: Path, account: Account | None) -> Iterator[Change]:
    """Give each part of the folder to whom it belongs.

    Args:
        account: None where the user is not made yet: then the changes can only be described.
    """
    account = account or _NOBODY_YET
    name, uid, gid = account.name, account.uid, account.gid

    def read(found: os.stat_result, is_key: Callable[[], bool]) -> Right | None:
        if stat.S_ISDIR(found.st_mode):
            return 0, gid, _READ_FOLDER
        return None if is_key() else (0, gid, _READ_FILE)

    def read_key(found: os.stat_result, is_key: Callable[[], bool]) -> Right | None:
        return (uid, gid, _SECRET_FILE) if not stat.S_ISDIR(found.st_mode) and is_key() else None

    def read_secret(found: os.stat_result, _: Callable[[], bool]) -> Right:
        return (0, gid, _READ_FOLDER) if stat.S_ISDIR(found.st_mode) else (uid, gid, _SECRET_FILE)

    def write(found: os.stat_result, _: Callable[[], bool]) -> Right:
        mode = stat.S_IMODE(found.st_mode)  # what the service made itself stays as it made it
        return uid, gid, mode if found.st_uid == uid else mode & _OWNER_ALONE

    yield from _change(f"give {name} its folder", root, (), lambda *_: (uid, gid, ROOT_MODE))
    yield from _change(f"let {name} read, and nobody but root write", root, READ, read)
    yield from _change(f"let {name} alone read", root, READ, read_key)
    yield from _change(f"let {name} alone read", root, SECRETS, read_secret)
    yield from _change(f"give {name} its state", root, STATE, write)


def return_changes(root: Path, account: Account) -> Iterator[Change]:
    """Give everything in the folder that is the service's back to root."""

    def given_back(found: os.stat_result, _: Callable[[], bool]) -> Right:
        uid = 0 if found.st_uid == account.uid else found.st_uid
        gid = 0 if found.st_gid == account.gid else found.st_gid
        return uid, gid, stat.S_IMODE(found.st_mode)

    inside = sorted(entry.name for entry in os.scandir(root))
    yield from _change("give root what was the service's", root, (), given_back)
    yield from _change("give root what was the service's", root, inside, given_back)


def _change(text: str, root: Path, tops: Sequence[str], order: Order) -> Iterator[Change]:
    wrong = list(_walk(root, tops, order, correct=False))
    if wrong:
        shown = [str(path.relative_to(root)) if path != root else str(root) for path in wrong[:_SHOWN]]
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""

        def make() -> None:
            for _ in _walk(root, tops, order, correct=True):
                pass

        yield Change(f"{text}: {', '.join(shown)}{more}", make)


def _walk(root: Path, tops: Sequence[str], order: Order, *, correct: bool) -> Iterator[Path]:
    """The entries at and below ``tops`` (none: the root itself) that are not as ordered, corrected where asked for.

    Raises:
        StopError: something cannot be looked at or changed.
    """
    try:
        with _opened(root) as folder:
            if not tops:
                yield from _own(root, folder, order, correct)
            for top in tops:
                yield from _below(root / top, folder, order, correct)
    except OSError as error:
        raise StopError(
            f"the folder cannot be given to its users: {error.strerror}",
            where=str(error.filename or root),
            remedy="run this as root" if os.geteuid() else None,
        ) from error


def _below(path: Path, parent: int, order: Order, correct: bool) -> Iterator[Path]:
    try:
        found = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            with _opened(path.name, parent) as folder:
                yield from _own(path, folder, order, correct)
                for name in sorted(entry.name for entry in os.scandir(folder)):
                    yield from _below(path / name, folder, order, correct)
        elif stat.S_ISREG(found.st_mode):
            with _opened(path.name, parent, _FILE_FLAGS) as file:
                yield from _own(path, file, order, correct)
        elif stat.S_ISSOCK(found.st_mode):
            yield from _socket(path, parent, found, order, correct)
    except FileNotFoundError:
        return  # none there, or the service removed it meanwhile


def _own(path: Path, opened: int, order: Order, correct: bool) -> Iterator[Path]:
    found = os.fstat(opened)
    right = order(
        found, lambda: path.suffix == ".key" or b"PRIVATE KEY-----" in os.pread(opened, _LONGEST_KEY_BYTES, 0)
    )
    if right is None or right == (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)):
        return
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        raise StopError(
            "a file has a second name, perhaps outside of the folder, so it is given to nobody",
            where=str(path),
            remedy="put a copy of it in its place, and run this again",
        )
    if correct:
        os.fchown(opened, right[0], right[1])
        os.fchmod(opened, right[2])
    yield path


def _socket(path: Path, parent: int, found: os.stat_result, order: Order, correct: bool) -> Iterator[Path]:
    """A socket cannot be opened; its mode stays."""
    right = order(found, lambda: False)
    if right is None or right[:2] == (found.st_uid, found.st_gid):
        return
    if correct:
        os.chown(path.name, right[0], right[1], dir_fd=parent, follow_symlinks=False)
    yield path


@contextmanager
def _opened(path: Path | str, parent: int | None = None, flags: int = _FOLDER_FLAGS) -> Iterator[int]:
    """A descriptor of a folder or file; a link in its place is an error."""
    descriptor = os.open(path, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
