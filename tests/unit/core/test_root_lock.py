"""One core at a time works in a root, whatever becomes of the files in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mli.core.doctor.patient import core_in
from mli.core.root import Root, RootLock
from mli.errors import StopError


def test_a_root_is_held_once_and_its_holder_is_named(tmp_path: Path) -> None:
    with RootLock(Root(tmp_path)):
        with (
            pytest.raises(StopError, match="another core works in this root folder") as refusal,
            RootLock(Root(tmp_path)),
        ):
            pass
        assert refusal.value.got == f"process {os.getpid()} holds it"
    with RootLock(Root(tmp_path)):
        pass


def test_a_removed_lock_file_lets_nobody_in(tmp_path: Path) -> None:
    with RootLock(Root(tmp_path)):
        (tmp_path / ".lock").unlink()
        with pytest.raises(StopError, match="another core works"), RootLock(Root(tmp_path)):
            pass
        assert core_in(tmp_path) == os.getpid()
    assert core_in(tmp_path) is None
