"""What bounds workers: containers, control of their memory, and the memory that there is."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import psutil

from mli.core.doctor.finding import Verdict, fail, ok, skipped, warn
from mli.core.doctor.patient import Patient
from mli.core.doctor.records import read_pointer
from mli.core.log_reading import LogReader

MEBIBYTE = 1024 * 1024
_SYSTEM_BYTES = 256 * MEBIBYTE
"""For the system, the core and what else runs."""
_RECORDS_READ = 2000
_RAISE_LIMIT = "set `limits: {memory: …}` of that pipeline higher, or take a smaller model"
_OUT_OF_MEMORY = re.compile(
    r"more memory than (?:its pipeline|it is allow)|had no memory left|for want of memory|bad_alloc"
)
_RECENT_S = 7 * 24 * 3600.0


def check_isolation(patient: Patient) -> Verdict:
    """A container can be made, where something asks for one."""
    wanted = _who_wants_container(patient)
    running = _isolation_of_core(patient)
    if running is not None:
        return _judge_running(running, wanted)
    from mli.core.isolation.trial import Containers, try_containers

    found = try_containers()
    if isinstance(found, Containers):
        return ok(f"containers work: {found}")
    said = f"{found.why}: {found.got}" if found.got else found.why
    if wanted is not None:
        return fail(f"{wanted} asks for a container, and none can be made: {said}", found.remedy)
    return warn(f"workers run without a container: {said}", found.remedy)


def check_memory(patient: Patient) -> Verdict:
    """Who holds workers to their memory, and whether this machine has what their limits promise."""
    total = psutil.virtual_memory().total
    pipelines = () if patient.deployment is None else patient.deployment.pipelines
    promised = sum(item.limits.memory_bytes for item in pipelines)
    control = _memory_control(patient)
    told = f"{total // MEBIBYTE:,} MB in all; limits are held by {control}"
    if promised > total - _SYSTEM_BYTES:
        return warn(
            f"{told}; the limits of {len(pipelines)} pipeline(s) add up to {promised // MEBIBYTE:,} MB, more than "
            "there is beside the system",
            "set smaller `limits: {memory: …}`, near to what `mli core status` shows as used",
        )
    if promised:
        told += f"; {promised // MEBIBYTE:,} MB promised to pipelines"
    return ok(told)


def check_memory_ends(patient: Patient) -> Verdict:
    """Workers that were ended for want of memory, by the core or by the kernel."""
    for pipeline in (patient.status or {}).get("pipelines", ()):
        if _OUT_OF_MEMORY.search(pipeline.get("error") or ""):
            return _told_again(f"pipeline {pipeline.get('name')}: {pipeline['error']}")
    path = patient.root.system_log
    if not path.exists():
        return skipped("no core has run here yet")
    from mli.core.log_entries import as_object, records_of

    with LogReader(path) as reader:
        records = list(records_of(reader.last(_RECORDS_READ)))
    since = max(patient.now() - _RECENT_S, float(read_pointer(patient.root).get("activated_at") or 0.0))
    ends = [
        body
        for body in map(as_object, records)
        if _OUT_OF_MEMORY.search(f"{body.get('message')} {(body.get('error') or {}).get('what')}")
        and _seconds(body.get("time")) >= since
    ]
    if not ends:
        return ok("no worker ended for want of memory, as far as the log goes back for the present deployment")
    last = ends[-1]
    error = last.get("error") or {}
    numbers = [f"{name} {error[key]}" for name, key in (("used", "got"), ("allowed", "expected")) if key in error]
    told = f"{len(ends)} time(s), last at {last.get('time')}: {last['message']}"
    detail = f"{told} ({'; '.join(numbers)})" if numbers else told
    return fail(detail, error.get("remedy") or _RAISE_LIMIT)


def _seconds(text: object) -> float:
    """Unix seconds of a log's time."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def _told_again(text: str) -> Verdict:
    """An error's text, as the status has it, to what it says and its remedy."""
    what, _, remedy = text.partition("to fix:")
    told = "; ".join(line.strip() for line in what.splitlines() if line.strip())
    return fail(told, remedy.strip() or _RAISE_LIMIT)


def _who_wants_container(patient: Patient) -> str | None:
    if patient.device is not None and patient.device.min_isolation == "container":
        return "device.yaml (min_isolation)"
    pipelines = () if patient.deployment is None else patient.deployment.pipelines
    found = next((item.name for item in pipelines if item.isolation == "container"), None)
    return None if found is None else f"the pipeline {found}"


def _isolation_of_core(patient: Patient) -> list[tuple[str, str | None, str | None]] | None:
    """Pipeline, isolation and why not, as the running core has it: it may be allowed other things."""
    pipelines = (patient.status or {}).get("pipelines")
    if not pipelines:
        return None
    found = [(item.get("name"), item.get("isolation"), item.get("why_not_isolated")) for item in pipelines]
    return found if all(isolation is not None for _, isolation, _ in found) else None


def _judge_running(running: list[tuple[str, str | None, str | None]], wanted: str | None) -> Verdict:
    told = ", ".join(f"{name}: {isolation}" for name, isolation, _ in running)
    bare = next(((name, why) for name, isolation, why in running if isolation == "none" and why), None)
    if bare is None:
        return ok(told)
    judge = warn if wanted is None else fail
    return judge(
        f"{told}; {bare[0]} runs without a container: {bare[1]}",
        "`mli doctor` without a running core says what to change; or set `isolation: none` for that pipeline",
    )


def _memory_control(patient: Patient) -> str:
    """As the running core says; else what a core would find in this process's place."""
    for pipeline in (patient.status or {}).get("pipelines", ()):
        control = (pipeline.get("memory") or {}).get("control")
        if control:
            return str(control)
    for controllers, name in (
        (Path("/sys/fs/cgroup/cgroup.controllers"), "cgroup v2"),
        (Path("/sys/fs/cgroup/unified/cgroup.controllers"), "cgroup v2"),
    ):
        try:
            if "memory" in controllers.read_text().split():
                return f"{name}, where the core may use it"
        except OSError:
            continue
    if Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists():
        return "cgroup v1, where the core may use it"
    return "a watchdog that looks a few times a second"
