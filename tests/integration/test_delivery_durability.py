"""The spool through killed processes and a disk that takes no more."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.fixtures.brokers import ROOT

from mli.config.settings import SpoolSettings
from mli.delivery.spool import Spool

WRITE_FOR_EVER = """
    import sys
    from pathlib import Path
    from mli.config.settings import SpoolSettings
    from mli.delivery.spool import Spool
    from tests.fixtures.delivery_rig import make_record
    spool = Spool(Path(sys.argv[1]), SpoolSettings(), sink="mqtt")
    sequence = spool.resume("belt", "a").next_sequence
    print("ready", flush=True)
    while True:
        group = range(sequence, sequence + int(sys.argv[2]))
        assert spool.put([make_record(spool.epoch, one) for one in group]) == []
        sequence = group.stop
        print(group.stop - 1, flush=True)
"""

FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from mli.config.settings import SpoolSettings
    from mli.delivery.spool import Spool
    from mli.errors import RetryError
    from tests.fixtures.delivery_rig import make_record
    spool = Spool(Path(sys.argv[1]), SpoolSettings(), sink="mqtt")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    sequence = 1
    while True:
        try:
            spool.put([make_record(spool.epoch, sequence, payload=b"x" * 10_000)])
        except RetryError as error:
            said = str(error)
            break
        sequence += 1
    assert spool.stats().queued == sequence - 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for one in range(sequence, sequence + 20):
        assert spool.put([make_record(spool.epoch, one, payload=b"x" * 10_000)]) == []
    print(sequence, said.splitlines()[0])
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("group", [1, 32])
def test_a_killed_process_loses_nothing_that_was_acknowledged_and_leaves_no_gap(group: int, tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    acknowledged = 0
    for lines in (1, 17, 60, 3):
        process = start(WRITE_FOR_EVER, path, group)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        told = [int(process.stdout.readline()) for _ in range(lines)]
        process.kill()
        told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
        process.stdout.close()
        acknowledged = max([acknowledged, *told])
    spool = Spool(path, SpoolSettings(), sink="mqtt")
    found = [one.message.sequence for one in spool.claim(1_000_000)]
    state = spool.resume("belt", "a")
    spool.close()
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= acknowledged >= 81 * group
    assert (state.next_sequence, state.position) == (len(found) + 1, str(len(found)))


def test_a_disk_that_takes_no_more_is_a_retry_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    process = start(FULL_DISK, path)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 0, said
    refused, what = said.strip().split(" ", 1)
    assert int(refused) > 10
    assert "spool" in what
    spool = Spool(path, SpoolSettings(), sink="mqtt")
    assert [one.message.sequence for one in spool.claim(10_000)] == list(range(1, int(refused) + 20))
    spool.close()
