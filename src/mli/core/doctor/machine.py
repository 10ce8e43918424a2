"""The machine: its system, processor and disk."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mli.core.doctor.finding import Verdict, fail, ok, skipped, warn
from mli.core.doctor.patient import Patient

MEBIBYTE = 1024 * 1024
_LEAST_PYTHON = (3, 11)
_LEAST_GLIBC = (2, 28)
_LEAST_FREE_BYTES = 256 * MEBIBYTE
_LEAST_INODES = 2000
_MACHINES = ("x86_64", "aarch64", "arm64")

# Names of /proc/cpuinfo, and what they are called elsewhere.
_X86 = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "BF16",
    "amx_tile": "AMX",
}
_ARM = {"asimd": "NEON", "asimdhp": "FP16", "asimddp": "dot product", "i8mm": "I8MM", "bf16": "BF16", "sve": "SVE"}


def check_system(_: Patient) -> Verdict:
    """64 bits, a Python and a C library for which the runtimes have packages."""
    python = platform.python_version()
    told = f"{platform.system()} {platform.machine()}, Python {python}"
    if sys.maxsize <= 2**32 or platform.machine() not in _MACHINES:
        return fail(
            f"{told}: the runtimes have no packages for it", "use a 64-bit system on x86_64 or aarch64 (arm64)"
        )
    if sys.version_info < _LEAST_PYTHON:
        return fail(f"{told}: too old", "install Python 3.11, 3.12 or 3.13, and mli into it")
    if platform.system() != "Linux":
        return warn(f"{told}: for `mli run` and `mli demo` only", "run `mli core start` on 64-bit Linux")
    library, version = platform.libc_ver()
    if library != "glibc":
        return warn(f"{told}, no glibc", "the runtimes' packages need glibc: take Debian, Ubuntu or the like")
    if _numbers(version) < _LEAST_GLIBC:
        return warn(f"{told}, glibc {version}", "the runtimes' present packages need glibc 2.28 or newer")
    return ok(f"{told}, glibc {version}")


def check_processor(_: Patient) -> Verdict:
    """What the processor can do for inference."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return skipped("this system does not tell")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return judge_processor(text, platform.machine(), cores)


def judge_processor(cpuinfo: str, machine: str, cores: int) -> Verdict:
    """See ``check_processor``."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    names = _X86 if machine == "x86_64" else _ARM
    has = [shown for flag, shown in names.items() if flag in flags]
    model = fields.get("model name", fields.get("Model", machine))
    told = f"{model}, {cores} core{'' if cores == 1 else 's'}: {', '.join(has) or 'nothing special'}"
    if machine == "x86_64" and "avx2" not in flags:
        return warn(
            f"{told}; without AVX2 inference takes several times as long",
            "in a virtual machine, pass the host's processor through; else expect a longer time a frame",
        )
    if machine != "x86_64" and "asimddp" not in flags:
        return ok(f"{told}; without dot product instructions int8 models gain little")
    return ok(told)


@dataclass(frozen=True, slots=True)
class DiskState:
    """What statvfs says of the file system below a folder."""

    free_bytes: int
    free_inodes: int | None
    read_only: bool


def check_disk(patient: Patient) -> Verdict:
    """Room for two versions of a model and for the queue, inodes, and a disk that can be written."""
    folder = patient.root.path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    found = os.statvfs(folder)
    state = DiskState(
        free_bytes=found.f_bavail * found.f_frsize,
        free_inodes=found.f_favail if found.f_files else None,
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )
    largest = max(map(_size_of, _folders(patient.root.path / "models")), default=0)
    cached = max(map(_size_of, _folders(patient.root.cache)), default=0)
    spool = 0
    if patient.device is not None:
        used = patient.root.spool.stat().st_size if patient.root.spool.exists() else 0
        spool = max(0, patient.device.spool.max_bytes - used)
    verdict = judge_disk(str(folder), state, largest + cached, spool)
    if verdict.state == "fail":
        return verdict
    problem = _write_problem(patient)
    return verdict if problem is None else problem


def judge_disk(folder: str, state: DiskState, largest_model_bytes: int, spool_bytes: int) -> Verdict:
    """See ``check_disk``.

    Args:
        largest_model_bytes: with what is made of it.
        spool_bytes: by which the queue may still grow.
    """
    told = f"{folder}: {_megabytes(state.free_bytes)} free"
    if state.read_only:
        return fail(
            f"{folder} is mounted read-only",
            "mount it writable; a card or disk that failed is mounted so by the system",
        )
    if state.free_inodes is not None and state.free_inodes < _LEAST_INODES:
        return fail(f"{told}, but only {state.free_inodes} more files fit", "remove files: `df -i` shows the inodes")
    need = max(2 * largest_model_bytes, _LEAST_FREE_BYTES)
    if state.free_bytes < need:
        why = "two versions of its largest model" if largest_model_bytes else "two versions of a model"
        judge = fail if state.free_bytes < _LEAST_FREE_BYTES // 4 else warn
        return judge(
            f"{told}, and {why} need {_megabytes(need)}: a deployment would find no room",
            "make room, or put the folder on a larger disk with --root",
        )
    if state.free_bytes < need + spool_bytes:
        return warn(
            f"{told}: enough for two versions of a model, but then the queue cannot grow to its size "
            f"({_megabytes(spool_bytes)} more)",
            "make room, or set a smaller `spool: {max_size: …}` in device.yaml",
        )
    return ok(f"{told}, {_megabytes(need)} needed for two versions of a model")


def _write_problem(patient: Patient) -> Verdict | None:
    """Writes a file of its own, durably, and removes it; another user's folder is that user's affair."""
    folder = patient.root.path
    if not folder.is_dir() or (os.geteuid() != 0 and folder.stat().st_uid != os.geteuid()):
        return None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return fail(
            f"{folder}: nothing can be written: {error.strerror}", "check the disk and the folder's permissions"
        )
    return None


def _folders(parent: Path) -> list[Path]:
    try:
        return [path for path in parent.iterdir() if path.is_dir()]
    except OSError:
        return []


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def _megabytes(count: int) -> str:
    return f"{count / MEBIBYTE:,.0f} MB" if count < 10_000 * MEBIBYTE else f"{count / 1024 / MEBIBYTE:,.0f} GB"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
