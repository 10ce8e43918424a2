"""How stacks at work are shown: plain lines, a spinner on a terminal; and the person is asked where it matters."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from mli.cli.to_type import to_type
from mli.errors import UsageError

if TYPE_CHECKING:
    from mli.cloud.stack_change import Change
    from mli.cloud.stack_failures import Event
    from mli.cloud.stack_step import Done

_WORDS = {
    "add": "add",
    "change": "change",
    "replace": "REPLACE",
    "may replace": "MAY REPLACE",
    "remove": "REMOVE",
}
_LONGEST_REASON = 1000
_DANGEROUS = frozenset({"replace", "may replace", "remove"})
_HARMLESS = ("::Deployment", "::ComponentVersion", "Attachment")
"""What is replaced by each change, and holds nothing of its own."""


class LinesWatcher:
    """Tells a person on standard error.

    Args:
        yes: nothing is asked.
        quiet: neither events nor changes are shown, as with ``--json``.
    """

    def __init__(self, *, yes: bool, quiet: bool = False) -> None:
        self._yes = yes
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()

    def say(self, text: str) -> None:
        """A sentence of the command's own."""
        typer.echo(f"mli: {to_type(text)}", err=True)

    def event(self, stack_name: str, event: Event) -> None:
        """What CloudFormation does, where somebody watches."""
        if not self._terminal or self._quiet:
            return
        from mli.delivery.one_line import one_line

        reason = f"  {one_line(event.reason, _LONGEST_REASON)}" if event.failed and event.reason else ""
        typer.echo(f"  {stack_name}  {event.status:<20}  {event.logical_id}{reason}", err=True)

    def agree(self, stack_name: str, makes: bool, changes: Sequence[Change]) -> bool:
        """Show the changes; ask on a terminal, and elsewhere refuse what takes something away unless ``--yes``."""
        if not self._quiet or not self._yes:
            typer.echo(f"{stack_name}: {'to be made' if makes else 'to be updated'}", err=True)
            for line in change_lines(changes):
                typer.echo(f"  {line}", err=True)
        if self._yes:
            return True
        dangerous = [change for change in changes if is_dangerous(change)]
        if not self._terminal or not sys.stdin.isatty():
            if dangerous:
                raise UsageError(
                    f"{stack_name}: something would be replaced or removed, and nobody is here to agree",
                    got=", ".join(f"{change.logical_id} ({_WORDS[change.what]})" for change in dangerous),
                    remedy="look at it with --dry-run, then --yes",
                )
            return True
        return typer.confirm("Go on?", default=not dangerous, err=True)


def is_dangerous(change: Change) -> bool:
    """Whether something that may be in use goes away."""
    return change.what in _DANGEROUS and not change.type.endswith(_HARMLESS)


def change_lines(changes: Sequence[Change]) -> list[str]:
    """A line for each change."""
    if not changes:
        return ["only its parameters, tags or outputs"]
    width = max(len(_WORDS[change.what]) for change in changes)
    return [
        f"{_WORDS[change.what]:<{width}}  {change.logical_id}  {change.type}"
        + (f"  {change.physical_id}" if change.physical_id else "")
        for change in changes
    ]


def done_text(done: Done) -> str:
    """One line: what became of the stack."""
    words = {"made": "made", "updated": "updated", "nothing": "nothing to change"}
    return f"{done.name}: {words.get(done.did, done.did)}"


def done_json(done: Done) -> dict[str, Any]:
    """The same for programs."""
    return {
        "stack": done.name,
        "did": done.did,
        "status": None if done.stack is None else done.stack.status,
        "changes": [
            {"what": c.what, "resource": c.logical_id, "type": c.type, "id": c.physical_id or None}
            for c in done.changes
        ],
    }


@contextmanager
def told_when_interrupted() -> Iterator[None]:
    """Say what Ctrl-C means here, and exit 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(
            "mli: interrupted. What CloudFormation began goes on by itself; the same command follows it and goes on.",
            err=True,
        )
        raise typer.Exit(130) from None
    except typer.Abort:  # Ctrl-C or the end of input at a question
        typer.echo("\nmli: interrupted at the question; nothing was changed after it.", err=True)
        raise typer.Exit(130) from None
