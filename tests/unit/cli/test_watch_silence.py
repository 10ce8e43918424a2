"""What ``mli watch`` says when nothing comes."""

from __future__ import annotations

from typing import Any

import pytest

from mli.cli import watch as module


class Silent:
    """A subscription that hears nothing."""

    def receive(self, _timeout_s: float) -> None:
        return None


class Notes:
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize(
    ("things", "on_aws", "told"),
    [
        (["line-1"], True, "is it called line-1? mli watch --aws shows all things"),
        (["a", "b"], False, "is it called a or b? mli watch without --thing shows all things"),
        (None, True, "mli core status"),
    ],
)
def test_silence_is_told_once(
    monkeypatch: pytest.MonkeyPatch, things: list[str] | None, on_aws: bool, told: str
) -> None:
    monkeypatch.setattr(module, "_SILENT_S", 0.01)
    silent: Any = Silent()
    notes: Any = Notes()
    hint = module._silence(things, on_aws)
    assert list(module._shown(silent, notes, None, None, 0.1, hint)) == []
    (note,) = notes.said
    assert told in note
