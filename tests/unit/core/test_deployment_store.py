"""What must survive a power cut about deployments: whole or not there, and damage lets nothing bad in."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from mli.config.settings import TrustAnchor
from mli.core.deployment_store import (
    HISTORY_KEPT,
    QUARANTINED,
    DeploymentRecord,
    DeploymentStore,
    Highest,
    Pointer,
    Quarantined,
)
from mli.core.status import ModelState, Problem
from mli.errors import RetryError, StopError
from mli.models.staging import PREFIX

RECORD = DeploymentRecord(
    identity="ab" * 32,
    revision=7,
    origin="remote",
    text="revision: 7\n# ü\n",
    folder="/root",
    name="mli/deployments/thing",
    received_at=1_795_000_000.5,
    signed_by="0123456789abcdef",
    models={"main": ModelState("cd" * 32, pinned=True)},
    proved=("ef" * 16,),
)
POINTER = Pointer("ab" * 32, "cd" * 32, 7, good=True, activated_at=1.5, crashes=2, boots=1)
HIGHEST = Highest(7, "ab" * 32, "rolled_back", Problem("what", "where", None, "got", "remedy"), "01" * 32)
A, B, C = (TrustAnchor(f"{number:016x}", f"{number:064x}") for number in (1, 2, 3))


def test_what_was_written_is_read_by_the_next_core(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path)
    assert (store.pointer(), store.highest(), store.from_file().sha256) == (Pointer(), Highest(), "")
    assert store.record(RECORD.identity) is None
    store.keep(RECORD)
    store.point(POINTER)
    store.raise_to(HIGHEST)
    store.note_file("12" * 32)
    store.quarantine(Quarantined("ab" * 32, 1.0, 7, "crashed"))
    again = DeploymentStore(tmp_path)
    assert again.record(RECORD.identity) == RECORD
    assert again.pointer() == POINTER
    assert again.highest() == HIGHEST
    assert again.from_file().sha256 == "12" * 32
    assert again.quarantined("ab" * 32) == Quarantined("ab" * 32, 1.0, 7, "crashed")


DAMAGE = {"empty": b"", "cut": b'{"current": "ab', "zeros": bytes(100), "no object": b"[1]", "another's": b'{"x": 1}'}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_pointer_or_record_is_none(tmp_path: Path, content: bytes) -> None:
    store = DeploymentStore(tmp_path)
    store.keep(RECORD)
    store.point(POINTER)
    (tmp_path / "pointer.json").write_bytes(content)
    (tmp_path / "history" / f"{RECORD.identity}.json").write_bytes(content)
    assert store.pointer() == Pointer()
    assert store.record(RECORD.identity) is None


def test_a_record_under_another_ones_name_is_none(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path)
    store.keep(RECORD)
    (tmp_path / "history" / f"{RECORD.identity}.json").rename(tmp_path / "history" / "other.json")
    assert store.record("other") is None


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_highest_revision_or_trust_is_no_low_revision_and_no_trust(tmp_path: Path, content: bytes) -> None:
    store = DeploymentStore(tmp_path)
    store.raise_to(HIGHEST)
    store.rotate((A,), (B,))
    for name in ("highest.json", "trust.json"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StopError, match="damaged") as damaged:
        store.highest()
    assert damaged.value.where == str(tmp_path / "highest.json")
    assert damaged.value.remedy
    with pytest.raises(StopError, match="damaged"):
        store.trust((A,))


def test_what_a_killed_core_left_half_written_is_removed(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path)
    store.point(POINTER)
    (tmp_path / f"{PREFIX}pointer").write_bytes(b"{")
    (tmp_path / "history" / f"{PREFIX}x").write_bytes(b"{")
    assert DeploymentStore(tmp_path).pointer() == POINTER
    assert not list(tmp_path.rglob(f"{PREFIX}*"))


def test_a_write_that_fails_is_told_and_leaves_the_old(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path)
    store.keep(RECORD)
    path = tmp_path / "history" / f"{'cd' * 32}.json"
    path.mkdir()  # no file can be renamed over it
    with pytest.raises(RetryError, match="cannot be written") as failed:
        store.keep(replace(RECORD, identity="cd" * 32))
    assert failed.value.remedy
    assert store.record(RECORD.identity) == RECORD
    assert not list(tmp_path.rglob(f"{PREFIX}*"))


def test_a_pointer_that_is_there_counts_also_where_the_disk_fails_after_its_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DeploymentStore(tmp_path)
    store.point(Pointer(current="old"))
    sync = os.fsync

    def fails_for_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fails_for_folders)
    store.point(Pointer(current="new"))  # no error: whoever got one would go on with the old
    assert store.pointer().current == DeploymentStore(tmp_path).pointer().current == "new"


def test_the_history_is_bounded_and_keeps_what_is_needed(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path)
    identities = [f"{number:064x}" for number in range(HISTORY_KEPT + 5)]
    for age, identity in enumerate(identities):
        store.keep(replace(RECORD, identity=identity))
        os.utime(tmp_path / "history" / f"{identity}.json", (age, age))
    store.forget_others({identities[0]})
    assert store.record(identities[0]) is not None
    assert [store.record(identity) is not None for identity in identities[1:5]] == [False] * 4
    assert all(store.record(identity) is not None for identity in identities[-HISTORY_KEPT:])


def test_the_quarantine_is_bounded_forgets_the_oldest_and_can_be_left(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path)
    for number in range(QUARANTINED + 2):
        store.quarantine(Quarantined(str(number), float(number), number, "crashed"))
    store.quarantine(Quarantined("5", 1000.0, 5, "crashed once more"))
    assert store.quarantined("0") is None
    assert store.quarantined("1") is None
    assert store.quarantined("2") is not None
    found = store.quarantined("5")
    assert found is not None
    assert found.reason == "crashed once more"
    store.pardon("5")
    assert store.quarantined("5") is None
    assert store.quarantined("6") is not None
    store.pardon("unknown")


def test_rotated_keys_hold_until_the_devices_owner_changes_his(tmp_path: Path) -> None:
    store = DeploymentStore(tmp_path)
    assert store.trust((A,)) == (A,)
    store.rotate((A,), (B,))
    assert DeploymentStore(tmp_path).trust((A,)) == (B,)
    assert store.trust((A, C)) == (A, C)
    assert store.trust(()) == (), "a device that trusts nobody in particular"
    store.rotate((A,), (C,))
    assert store.trust((A,)) == (C,), "rotated once more"


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "deployments").write_text("a file")
    with pytest.raises(StopError, match="cannot be used") as failed:
        DeploymentStore(tmp_path / "deployments")
    assert failed.value.remedy
