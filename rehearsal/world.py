"""A world of its own for a process: no network but itself, and every name of AWS leads to it.

The kernel makes it (network and mount namespaces; for who is not root, a user namespace as well). Nothing that runs
in it can reach a real account, and the ports 53, 443 and 8883 are free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

_INSIDE = "MLI_REHEARSAL_INSIDE"
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x1 | 0x40
_ADDRESS = "127.0.0.1"
_DOMAINS = (b"\x09amazonaws\x03com\x00", b"\x09amazonaws\x03com\x02cn\x00")
_ANSWER, _NO_SUCH_NAME = 0x8180, 0x8183
_TYPE_A, _CLASS_IN = 1, 1
_PATIENCE_S = 10.0


class NoWorld(Exception):
    """The kernel does not make one; says why."""


def enter(module: str, arguments: Sequence[str]) -> None:
    """Go on as a new process inside; returns there.

    Raises:
        NoWorld: the kernel does not let us.
    """
    if os.environ.pop(_INSIDE, None) is None:
        kinds = ["unshare", "--mount", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
        tried = subprocess.run([*kinds, "true"], capture_output=True, text=True)
        if tried.returncode != 0:
            raise NoWorld(tried.stderr.strip())
        os.environ[_INSIDE] = "1"
        os.execvp(kinds[0], [*kinds, sys.executable, "-m", module, *arguments])
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH", b"lo", _IFF_UP_RUNNING))


def lead_names_here(folder: Path) -> None:
    """From now on this process, and what it starts, finds each ``*.amazonaws.com`` here, and no other name."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((_ADDRESS, 53))
    threading.Thread(target=_answer_all, args=(server,), daemon=True).start()
    # Names are asked for there alone, and not of a service of the system that has a network.
    files = {
        "resolv.conf": f"nameserver {_ADDRESS}\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
        place = Path("/etc", name).resolve()
        if place.exists():
            subprocess.run(["mount", "--bind", folder / name, place], check=True)


def processes_here() -> list[int]:
    """Who is in this world; workers in containers are not, but end with their core."""
    here = Path("/proc/self/ns/net").readlink()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if (folder / "ns" / "net").readlink() == here:
                found.append(int(folder.name))
    return found


def end_all(processes: Iterable[int]) -> None:
    """Let them end in order, and those that do not by force."""
    left = set(processes)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        until = time.monotonic() + _PATIENCE_S
        while left and time.monotonic() < until:
            time.sleep(0.05)
            left &= set(processes_here())


def _answer_all(server: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed
        while True:
            question, asker = server.recvfrom(512)
            server.sendto(answer_to(question), asker)


def answer_to(question: bytes) -> bytes:
    """A DNS answer: one address for AWS's names, "no such name" for all others."""
    end = 12
    while question[end]:
        end += question[end] + 1
    name = question[12 : end + 1].lower()
    kind = int.from_bytes(question[end + 1 : end + 3])
    is_ours = name.endswith(_DOMAINS)
    has_address = is_ours and kind == _TYPE_A
    head = question[:2] + struct.pack("!HHHHH", _ANSWER if is_ours else _NO_SUCH_NAME, 1, int(has_address), 0, 0)
    answer = head + question[12 : end + 5]
    if has_address:
        answer += struct.pack("!HHHIH", 0xC00C, _TYPE_A, _CLASS_IN, 5, 4) + socket.inet_aton(_ADDRESS)
    return answer
