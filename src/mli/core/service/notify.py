"""What the core tells systemd about itself: ready, alive, stopping, and one line of status (man 3 sd_notify).

A datagram to the socket that ``NOTIFY_SOCKET`` names. Without that socket nothing is sent, so the core says the same
things whoever started it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping

_log = logging.getLogger(__name__)
_SEND_TIMEOUT_S = 1.0
_LONGEST_STATUS = 512
_PARTS_OF_THE_WATCHDOG = 3
"""Says how often in its time the watchdog is fed: two lost or late datagrams end nothing."""


class Notifier:
    """Speaks to the service manager that started this process; silent where there is none.

    Args:
        environment: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` are taken out of it, so that no command
            and no worker speaks for the core.
        clock: monotonic seconds.
    """

    def __init__(
        self, environment: MutableMapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        environment = os.environ if environment is None else environment
        self._address = _address(environment.pop("NOTIFY_SOCKET", ""))
        self._watchdog_s = _watchdog_s(
            environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", ""), os.getpid()
        )
        self._clock = clock
        self._fed_at: float | None = None
        self._failed = False

    @property
    def listens(self) -> bool:
        """Whether there is someone to tell."""
        return self._address is not None

    @property
    def watchdog_every_s(self) -> float | None:
        """How often ``watchdog`` must be called at least; None where no watchdog runs."""
        return None if self._watchdog_s is None else self._watchdog_s / _PARTS_OF_THE_WATCHDOG

    def ready(self, status: str = "") -> None:
        """The service has started: what waits for it goes on."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(*_status(text))

    def watchdog(self) -> None:
        """The work loop still turns. May be called as often as one likes: it speaks only when it is time."""
        every_s = self.watchdog_every_s
        if every_s is None:
            return
        now = self._clock()
        if self._fed_at is not None and now - self._fed_at < every_s:
            return
        if self._send("WATCHDOG=1"):
            self._fed_at = now

    def more_time(self, seconds: float) -> None:
        """The start or the end that is under way takes up to ``seconds`` more: it is not stuck."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def stopping(self, status: str = "") -> None:
        """The service has begun to end."""
        self._send("STOPPING=1", *_status(status))

    def _send(self, *lines: str) -> bool:
        """Send one datagram; a manager that does not listen costs at most a second, and never the core."""
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(_SEND_TIMEOUT_S)
                channel.sendto("\n".join(lines).encode(errors="replace"), self._address)
        except OSError as error:
            if not self._failed:
                _log.warning("the service manager could not be told %r: %s", lines[0], error)
            self._failed = True
            return False
        self._failed = False
        return True


def _address(text: str) -> str | None:
    """The socket's address for ``sendto``: a path, or ``@NAME`` for one without a file; others are not spoken to."""
    if text.startswith("/"):
        return text
    if text.startswith("@") and len(text) > 1:
        return "\0" + text[1:]
    if text:
        _log.warning("NOTIFY_SOCKET=%s is neither a path nor @NAME: the service manager is told nothing", text)
    return None


def _watchdog_s(microseconds: str, watched_pid: str, own_pid: int) -> float | None:
    """Seconds within which the watchdog must be fed; None where it is not for this process."""
    if watched_pid and watched_pid != str(own_pid):
        return None
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None


def _status(text: str) -> tuple[str, ...]:
    """A line break would begin an assignment of its own."""
    line = " ".join(text.split())[:_LONGEST_STATUS]
    return (f"STATUS={line}",) if line else ()
