"""What the doctor makes of a machine: its processor, disk, clock and queue."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.fixtures.delivery_rig import make_record

from mli.config.settings import DeviceSettings, SpoolSettings
from mli.core.doctor.clock import ask_time, judge_clock
from mli.core.doctor.machine import MEBIBYTE, DiskState, check_disk, judge_disk, judge_processor
from mli.core.doctor.patient import Patient, core_in
from mli.core.doctor.running import check_old_core, check_queue
from mli.core.root import Root, RootLock
from mli.delivery.spool import Spool
from mli.delivery.spool_schema import Refusal

XEON = "model name\t: Intel Xeon\nflags\t\t: fpu sse4_2 avx avx2 avx512f avx512_bf16\n"
ATOM = "model name\t: Intel Atom\nflags\t\t: fpu sse4_2\n"
PI_4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
PI_5 = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\n\nModel\t\t: Raspberry Pi 5 Model B\n"


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "state", "told"),
    [
        (XEON, "x86_64", "ok", "Intel Xeon, 4 cores: AVX2, AVX-512, BF16"),
        (ATOM, "x86_64", "warn", "Intel Atom, 4 cores: nothing special; without AVX2"),
        (PI_4, "aarch64", "ok", "Raspberry Pi 4 Model B Rev 1.4, 4 cores: NEON; without dot product"),
        (PI_5, "aarch64", "ok", "Raspberry Pi 5 Model B, 4 cores: NEON, FP16, dot product"),
    ],
)
def test_processor(cpuinfo: str, machine: str, state: str, told: str) -> None:
    verdict = judge_processor(cpuinfo, machine, 4)
    assert (verdict.state, verdict.detail[: len(told)]) == (state, told)


@pytest.mark.parametrize(
    ("disk", "model_mb", "spool_mb", "state", "told"),
    [
        (DiskState(1000 * MEBIBYTE, 9999, False), 100, 256, "ok", "256 MB needed for two versions"),
        (DiskState(1000 * MEBIBYTE, None, False), 400, 100, "ok", "800 MB needed"),
        (DiskState(700 * MEBIBYTE, 9999, False), 400, 0, "warn", "two versions of its largest model need 800 MB"),
        (DiskState(20 * MEBIBYTE, 9999, False), 0, 0, "fail", "a deployment would find no room"),
        (DiskState(400 * MEBIBYTE, 9999, False), 100, 256, "warn", "the queue cannot grow"),
        (DiskState(9000 * MEBIBYTE, 12, False), 0, 0, "fail", "only 12 more files fit"),
        (DiskState(9000 * MEBIBYTE, 9999, True), 0, 0, "fail", "mounted read-only"),
    ],
)
def test_disk(disk: DiskState, model_mb: int, spool_mb: int, state: str, told: str) -> None:
    verdict = judge_disk("/srv", disk, model_mb * MEBIBYTE, spool_mb * MEBIBYTE)
    assert verdict.state == state
    assert told in verdict.detail


CHECK_OF_DISK = """
import sys
from pathlib import Path
from mli.core.doctor.machine import check_disk
from mli.core.doctor.patient import Patient
from mli.core.root import Root
verdict = check_disk(Patient(Root(Path(sys.argv[1]))))
print(verdict.state, verdict.detail)
"""


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """On a real read-only mount: root could write into anything else."""
    script = 'mount -t tmpfs -o ro,size=300m tmpfs "$3" && exec "$1" -c "$2" "$3"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", sys.executable, CHECK_OF_DISK]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"fail {tmp_path} is mounted read-only"


def test_the_disk_check_leaves_nothing_behind(tmp_path: Path) -> None:
    assert check_disk(Patient(Root(tmp_path))).state in ("ok", "warn")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("off_s", "state"), [(0, "ok"), (5, "ok"), (-40, "warn"), (40, "warn"), (900, "fail"), (-86_400, "fail")]
)
def test_clock(off_s: int, state: str) -> None:
    told = datetime(2026, 11, 25, 12, tzinfo=UTC)
    verdict = judge_clock(told + timedelta(seconds=off_s), told, "store.example")
    assert verdict.state == state
    if state != "ok":
        assert f"{abs(off_s)} s {'ahead of' if off_s > 0 else 'behind'} store.example" in verdict.detail


def test_nobody_who_tells_the_time_is_no_error() -> None:
    assert ask_time("http://127.0.0.1:9") is None
    assert ask_time("nonsense") is None


# --- the queue -------------------------------------------------------------------------------------------------


def filled(root: Root, count: int = 3) -> Spool:
    spool = Spool(root.spool, SpoolSettings(), sink="mqtt")
    spool.put([make_record(spool.epoch, number) for number in range(1, count + 1)])
    return spool


def test_a_queue_that_waits_is_counted_and_no_file_is_left(tmp_path: Path) -> None:
    root = Root(tmp_path)
    filled(root).close()
    before = sorted(tmp_path.iterdir())
    verdict = check_queue(Patient(root, DeviceSettings("t", str(tmp_path))))
    assert verdict.state == "ok"
    assert verdict.detail.startswith("3 waiting")
    assert sorted(tmp_path.iterdir()) == before


def test_the_queue_of_a_running_core_is_read_beside_it(tmp_path: Path) -> None:
    root = Root(tmp_path)
    spool = filled(root)
    verdict = check_queue(Patient(root, DeviceSettings("t", str(tmp_path)), core_pid=1))
    spool.close()
    assert verdict.detail.startswith("3 waiting")


def test_a_queue_that_is_nearly_full_is_told(tmp_path: Path) -> None:
    root = Root(tmp_path)
    filled(root).close()
    device = DeviceSettings("t", str(tmp_path), spool=SpoolSettings(max_bytes=1000))
    verdict = check_queue(Patient(root, device))
    assert verdict.state == "warn"
    assert "nearly full" in verdict.detail


def test_messages_that_the_broker_refuses_are_a_failure(tmp_path: Path) -> None:
    root = Root(tmp_path)
    spool = filled(root)
    (first, *_) = spool.claim(10)
    spool.settle([], [Refusal(first.rowid, "not authorized (reason 135)", permanent=False)])
    spool.close()
    verdict = check_queue(Patient(root))
    assert verdict.state == "fail"
    assert "the broker refuses 1 of them: not authorized (reason 135)" in verdict.detail


def test_dead_letters_are_told_with_the_brokers_reason(tmp_path: Path) -> None:
    root = Root(tmp_path)
    spool = filled(root)
    (first, *_) = spool.claim(10)
    spool.settle([], [Refusal(first.rowid, "packet too large", permanent=True)])
    spool.close()
    verdict = check_queue(Patient(root))
    assert verdict.state == "warn"
    assert "refused 1 for good, the last one because: packet too large" in verdict.detail


def test_a_damaged_queue_is_a_failure(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.spool.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    verdict = check_queue(Patient(root))
    assert verdict.state == "fail"
    assert str(root.spool) in verdict.detail


# --- whose folder it is ----------------------------------------------------------------------------------------


def test_the_process_that_holds_a_root_is_found_without_touching_its_lock(tmp_path: Path) -> None:
    assert core_in(tmp_path) is None
    with RootLock(Root(tmp_path)):
        assert core_in(tmp_path) == os.getpid()
    assert core_in(tmp_path) is None


# --- an old Greengrass -----------------------------------------------------------------------------------------


@contextmanager
def old_greengrass(folder: Path, thing: str) -> Iterator[None]:
    """A process that lies and is called as Greengrass V1's daemon."""
    daemon = folder / "greengrass" / "ggc" / "packages" / "1.11.6" / "bin" / "daemon"
    daemon.parent.mkdir(parents=True)
    shutil.copy(shutil.which("sleep") or "", daemon)
    config = folder / "greengrass" / "config" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"coreThing": {"thingArn": f"arn:aws:iot:eu-central-1:1:thing/{thing}"}}))
    process = subprocess.Popen([str(daemon), "600"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("thing", "state"), [("belt-7", "fail"), ("door-1", "ok")])
def test_an_old_greengrass_that_runs(tmp_path: Path, thing: str, state: str) -> None:
    patient = Patient(Root(tmp_path), DeviceSettings("belt-7", str(tmp_path)))
    with old_greengrass(tmp_path, thing):
        verdict = check_old_core(patient)
    assert verdict.state == state, verdict
    if state == "fail":
        assert "an old Greengrass of this thing runs" in verdict.detail
        assert "mli device install" in (verdict.remedy or "")


def test_no_old_greengrass(tmp_path: Path) -> None:
    verdict = check_old_core(Patient(Root(tmp_path), DeviceSettings("belt-7", str(tmp_path))))
    assert verdict.detail == "no Greengrass core is about"
