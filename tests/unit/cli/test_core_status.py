"""What `mli core status` shows of a core's answer."""

from __future__ import annotations

from typing import Any

from mli.cli.core_status import status_lines

PIPELINE: dict[str, Any] = {
    "name": "belt",
    "state": "waiting",
    "model": {"name": "inception-bn", "version": "1", "sha256": "17b3867e5eb1" + "0" * 52},
    "backend": None,
    "isolation": "none",
    "why_not_isolated": "bubblewrap is not installed",
    "memory": {"control": "watchdog", "used_bytes": 0, "allowed_bytes": 120 * 2**20},
    "frames": 52_114,
    "skipped": 2,
    "dropped": 0,
    "timeouts": 0,
    "restarts": 3,
    "error": "the worker was ended: it used more memory\n  found:    165 MB\n  to fix:   set `limits: …`",
}
ANSWER: dict[str, Any] = {
    "thing": "belt-7",
    "health": "degraded",
    "version": "0.1.0",
    "root": "/var/lib/mli",
    "revision": 7,
    "identity": "1e3c0522eba7" + "0" * 52,
    "broker": {"endpoint": "mqtts://b:8883", "connected": False, "subscribed": None, "last_error": "b: no such name"}
    | {"not_taken": ["line/belt: not authorized (reason 135)"]},
    "spool": {"queued": 1200, "dead": 1, "bytes": 3 * 2**20},
    "pipelines": [PIPELINE],
    "deployment": {
        "state": "downloading",
        "revision": 8,
        "progress": {"model": "main", "bytes": 5 * 2**20, "total": 20 * 2**20},
    },
    "last_error": "the worker was ended: it used more memory",
}


def test_everything_that_is_not_as_it_should_be_is_shown() -> None:
    assert list(status_lines(ANSWER)) == [
        "belt-7  degraded  (mli 0.1.0, /var/lib/mli)",
        "  broker      mqtts://b:8883, not connected: b: no such name",
        "  deployment  revision 7, 1e3c0522eba7",
        "  newest      revision 8 downloading: main 5.0 of 20.0 MB",
        "  queue       1,200 messages, 3.0 MB, 1 refused by the broker for good",
        "  not taken   line/belt: not authorized (reason 135)",
        "  pipeline    belt: waiting",
        "    model     inception-bn 1, 17b3867e5eb1, not loaded",
        "    isolation none (bubblewrap is not installed)",
        "    memory    0 of 120 MB, held by watchdog",
        "    work      52,114 frames, 2 skipped, worker replaced 3 times",
        "    error     the worker was ended: it used more memory",
        "              found:    165 MB",
        "              to fix:   set `limits: …`",
        "  last error  the worker was ended: it used more memory",
    ]


def test_a_core_with_nothing_to_do() -> None:
    idle = ANSWER | {"identity": None, "pipelines": [], "deployment": None, "last_error": None, "health": "idle"}
    lines = list(status_lines(idle))
    assert "  deployment  none" in lines
    assert lines[-1] == "  pipelines   none"
