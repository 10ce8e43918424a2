"""The user that the service runs as: made for it alone, and nobody can log in as it."""

from __future__ import annotations

import grp
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from mli.core.service.change import Change
from mli.errors import StopError, UsageError

COMMENT = "mli, predictions at the edge"
"""Of a user that we made, and therefore may remove."""
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_NO_LOGIN = re.compile(r".*/(nologin|false)")
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine and its own group."""

    name: str
    uid: int
    gid: int


def check_name(name: str) -> None:
    """Raises: UsageError: no user of a service can have this name."""
    if not _NAME.fullmatch(name):
        raise UsageError("this is no name of a user", expected="1 to 31 of a-z, 0-9, _ and -", got=repr(name))
    if name == "root":
        raise UsageError("the service never runs as root", remedy="leave --user out: it then has a user of its own")


def find_account(name: str) -> Account | None:
    """The user, where there is one that a service may run as; None where there is none yet.

    Raises:
        UsageError: it is a person's, the system's, or shares its group.
    """
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    remedy = "choose another name with --user: it is made for the service alone"
    if entry.pw_uid == 0 or entry.pw_gid == 0:
        raise UsageError(f"the user {name} has the rights of root", remedy=remedy)
    if not _NO_LOGIN.fullmatch(entry.pw_shell):
        raise UsageError(
            f"the user {name} can log in, so it is somebody's",
            expected="a user for the service alone, with the shell nologin",
            got=entry.pw_shell or "no shell at all, which means /bin/sh",
            remedy=remedy,
        )
    others = _others_in_group(entry)
    if others:
        raise UsageError(
            f"the group of the user {name} has others in it, who could read the device's key",
            got=others,
            remedy=remedy,
        )
    return Account(name, entry.pw_uid, entry.pw_gid)


def account_changes(name: str) -> Iterator[Change]:
    """Make the user, where it is not there."""
    if find_account(name) is None:
        yield Change(f"make the system user {name}, as which nobody can log in", lambda: _make(name))


def removal_changes(name: str) -> Iterator[Change]:
    """Remove the user, where we made it."""
    try:
        comment = pwd.getpwnam(name).pw_gecos
    except KeyError:
        return
    if comment == COMMENT:
        yield Change(f"remove the user {name}", lambda: _run("userdel", name))


def _others_in_group(entry: pwd.struct_passwd) -> str:
    try:
        group = grp.getgrgid(entry.pw_gid)
    except KeyError:
        return ""
    shared = [user.pw_name for user in pwd.getpwall() if user.pw_gid == entry.pw_gid]
    others = sorted({*group.gr_mem, *shared} - {entry.pw_name})
    return f"{', '.join(others)} in {group.gr_name}" if others else ""


def _make(name: str) -> None:
    """A group of that name that is there already becomes the user's own."""
    try:
        grp.getgrnam(name)
    except KeyError:
        group = ["--user-group"]
    else:
        group = ["--gid", name]
    no_login = shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin:/bin") or "/bin/false"
    home = ["--no-create-home", "--home-dir", "/nonexistent"]
    _run("useradd", "--system", *group, *home, "--shell", no_login, "--comment", COMMENT, name)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StopError(
            "the users of this machine could not be changed",
            where=" ".join(command),
            got=str(error),
            remedy=f"make a system user {command[-1]} without a login by hand, and run this again",
        ) from error
    if done.returncode:
        raise StopError(
            "the users of this machine could not be changed",
            where=" ".join(command),
            got=" ".join(done.stderr.split()) or f"exit code {done.returncode}",
        )
