"""What runs on the device: this core, its queue and its deployment, and others that are in its way."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mli.core.doctor.finding import Verdict, fail, of_error, ok, skipped, warn
from mli.core.doctor.patient import Patient
from mli.core.doctor.records import read_highest, read_pointer
from mli.core.service.systemd import Systemd
from mli.core.service.unit import UNIT_NAME

MEBIBYTE = 1024 * 1024
_BAD_ENDS = ("failed", "rolled_back", "refused")
_NEARLY_FULL = 0.8
_SHOWN_FIELDS = (("", "what"), ("where: ", "where"), ("expected: ", "expected"), ("found: ", "got"))
_SEE_LOGS = "see `mli core logs`"


def check_core(patient: Patient) -> Verdict:
    """The core of this folder runs, and is well in its own eyes."""
    status = patient.status
    if status is None:
        if patient.core_pid is not None:
            holder = f"process {patient.core_pid}" if patient.core_pid else "a process that is not seen from here"
            return warn(
                f"{holder} works in {patient.root.path} and does not answer on its control socket",
                "if it is `mli run`, all is well; else see `mli core logs`",
            )
        return _no_core(patient.root.path)
    told = f"mli {status.get('version', '?')}, revision {_or_none(status.get('revision'))}, {status.get('health')}"
    if status.get("health") == "degraded":
        error = status.get("last_error") or next(
            (item["error"] for item in status.get("pipelines", ()) if item.get("error")), "no cause is told"
        )
        what, _, remedy = str(error).partition("to fix:")
        detail = "; ".join(line.strip() for line in what.splitlines() if line.strip())
        return fail(f"{told}: {detail}", remedy.strip() or _SEE_LOGS)
    return ok(told)


def _no_core(root: Path) -> Verdict:
    """What its service says, where there is one."""
    unit = Systemd().show(UNIT_NAME, "LoadState", "ActiveState", "SubState", "Result", "NRestarts", "ExecStart")
    told = f"no core runs in {root}"
    if unit["LoadState"] != "loaded" or str(root) not in unit["ExecStart"]:
        return warn(told, f"start it: mli core start --root {root}, or make a service of it: mli device install")
    if unit["ActiveState"] == "inactive":
        return warn(f"{told}; its service {UNIT_NAME} is stopped", "start it: sudo systemctl start mli")
    return fail(
        f"{told}; its service {UNIT_NAME} is {unit['ActiveState']} ({unit['SubState']}, {unit['Result']}), "
        f"started again {unit['NRestarts'] or 0} times",
        "see why: mli core logs, journalctl -u mli",
    )


def check_deployment(patient: Patient) -> Verdict:
    """The last deployment came to a good end."""
    if patient.deployment_error is not None:
        error = patient.deployment_error
        return warn(f"what was activated last cannot be read: {error.what}", error.remedy or "deploy once more")
    state, told = _last_deployment(patient)
    if state is None:
        return skipped("none came yet")
    shown = f"the last one is {state.replace('_', ' ')}"
    if state not in _BAD_ENDS:
        return ok(shown)
    error_parts = [f"{name}{told[key]}" for name, key in _SHOWN_FIELDS if told.get(key)]
    serves = patient.deployment is not None
    judge = warn if serves else fail
    return judge(
        f"{shown}: {'; '.join(error_parts) or 'no cause is told'}{'; what ran before serves on' if serves else ''}",
        str(told.get("remedy") or "correct it, and deploy it with a higher revision"),
    )


def check_wanted(patient: Patient) -> Verdict:
    """What the broker holds for this thing can be taken, and was."""
    wanted = patient.wanted.read(patient)
    if wanted is None:
        return skipped("there is no broker")
    if wanted.error is not None:
        return of_error(wanted.error, "correct the deployment, and send it with a higher revision")
    if wanted.kind == "nothing":
        return ok("the broker holds no deployment for this thing")
    runs = (patient.status or read_pointer(patient.root)).get("revision")
    told = f"revision {_or_none(wanted.revision)} is wanted, {_or_none(runs)} runs"
    if wanted.kind == "cancel" or wanted.revision == runs:
        return ok(told if wanted.kind != "cancel" else f"revision {wanted.revision} cancels what was under way")
    return ok(f"{told}: see `deployment`") if patient.status is not None else ok(f"{told}: a core will take it")


def check_queue(patient: Patient) -> Verdict:
    """The spool can be read, is sound, has room, and the broker takes what is in it."""
    path = patient.root.spool
    if not path.exists():
        return skipped("there is no queue yet")
    # While no core has it open, reading it in the usual way would leave files behind that belong to this user.
    how = "mode=ro" if patient.core_pid is not None else "mode=ro&immutable=1"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=5.0)
        ) as database:
            queue = _Queue(
                sound=str(database.execute("PRAGMA quick_check(1)").fetchone()[0]),
                waiting=database.execute("SELECT count(*) FROM messages").fetchone()[0],
                waiting_bytes=database.execute("SELECT coalesce(sum(size), 0) FROM messages").fetchone()[0],
                refused=database.execute("SELECT count(*) FROM messages WHERE attempts > 0").fetchone()[0],
                reasons=tuple(
                    name.partition(":")[2]
                    for (name,) in database.execute("SELECT name FROM account WHERE name LIKE 'refused:%'")
                ),
                dead=database.execute("SELECT count(*) FROM dead_letters").fetchone()[0],
                reason=database.execute("SELECT max(number), reason FROM dead_letters").fetchone()[1],
            )
    except sqlite3.Error as error:
        return fail(
            f"{path}: {error}",
            f"stop the core and move the file away; what is in it may be saved by: sqlite3 {path} .recover",
        )
    return judge_queue(queue, None if patient.device is None else patient.device.spool.max_bytes)


@dataclass(frozen=True, slots=True)
class _Queue:
    """The spool's file.

    Attributes:
        refused: of those that wait, how many the broker has refused so far.
        reasons: with which it ever refused one.
        reason: why the last dead letter was refused.
    """

    sound: str
    waiting: int
    waiting_bytes: int
    refused: int
    reasons: tuple[str, ...]
    dead: int
    reason: str | None


def judge_queue(queue: _Queue, max_bytes: int | None) -> Verdict:
    """See ``check_queue``."""
    if queue.sound != "ok":
        return fail(f"the queue is damaged: {queue.sound}", "check the disk; stop the core and move the file away")
    told = f"{queue.waiting:,} waiting, {queue.waiting_bytes / MEBIBYTE:,.1f} MB"
    if queue.refused:
        return fail(
            f"{told}; the broker refuses {queue.refused:,} of them: {', '.join(queue.reasons)}",
            "let this thing publish on its topics (AWS IoT: iot:Publish on topic/mli/predictions/…); they are kept",
        )
    if queue.dead:
        return warn(
            f"{told}; the broker refused {queue.dead:,} for good, the last one because: {queue.reason}",
            "let the broker take them (topic, size, rights); they are kept as dead letters",
        )
    if max_bytes is not None and queue.waiting_bytes > _NEARLY_FULL * max_bytes:
        return warn(
            f"{told} of {max_bytes / MEBIBYTE:,.0f}: nearly full; then live sources drop their oldest, others pause",
            "see whether the broker is reached (above), or raise `spool: {max_size: …}`",
        )
    return ok(told)


def check_old_core(patient: Patient) -> Verdict:
    """No Greengrass core is about that uses the same client id: each would end the other's connection."""
    from mli.core.service.greengrass import OldGreengrass

    old = OldGreengrass(Systemd(), "" if patient.device is None else patient.device.thing)
    undone = [change.text for change in old.changes()]
    if undone:
        only_later = all(text.startswith("keep ") for text in undone)
        told = "starts at the next boot" if only_later else "runs"
        return (warn if only_later else fail)(
            f"an old Greengrass of this thing {told}, and each of the two would end the other's connection; "
            f"to be done: {', '.join(undone)}",
            "`sudo mli device install` does that; or: sudo systemctl disable --now greengrass",
        )
    return ok("; ".join(old.left_alone()) or "no Greengrass core is about")


def _last_deployment(patient: Patient) -> tuple[str | None, dict[str, Any]]:
    """State and error of the newest deployment; the core's word, else what it wrote down."""
    told = (patient.status or {}).get("deployment")
    body = told if isinstance(told, dict) else read_highest(patient.root)
    return body.get("state"), body.get("error") or {}


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)
