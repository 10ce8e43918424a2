"""What is to be sent, and under which revision: counted from what the broker holds, or given and then checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mli.core.envelope import MAX_MESSAGE_BYTES, seal, seal_cancel
from mli.core.sending.current import Current
from mli.core.sending.revision_text import with_revision
from mli.core.sending.rollout import Aim
from mli.core.topics import deployment_topic
from mli.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Order:
    """A deployment or, without ``text``, a cancellation.

    Attributes:
        text: the deployment file.
        identity: digest of its canonical form, as devices report it.
        revision: that was asked for; None counts.
        asked_by: where that stands: ``--revision`` or the file's name.
        key: that signs; None sends it unsigned.
        expires_at: Unix seconds, of what is signed.
    """

    expires_at: float
    text: str | None = None
    identity: str | None = None
    revision: int | None = None
    asked_by: str = "--revision"
    key: Ed25519PrivateKey | None = None

    def aim(self, revision: int) -> Aim:
        """What to look for in the things' answers."""
        return Aim("cancel" if self.text is None else "deployment", revision, self.identity)

    def messages(self, things: Sequence[str], revision: int) -> dict[str, bytes]:
        """What each thing is sent.

        Raises:
            RefusedError: it is too large.
        """
        payload = None if self.text is None else with_revision(self.text, revision).encode()
        return {thing: self._message(payload, thing, revision) for thing in things}

    def _message(self, payload: bytes | None, thing: str, revision: int) -> bytes:
        if payload is None:
            return seal_cancel(thing=thing, revision=revision, expires_at=self.expires_at, key=self.key)
        if self.key is not None:
            return seal(payload, thing=thing, revision=revision, expires_at=self.expires_at, key=self.key)
        if len(payload) > MAX_MESSAGE_BYTES:
            raise RefusedError(
                "The deployment is too large to be sent.",
                expected=f"at most {MAX_MESSAGE_BYTES:,} bytes",
                got=f"{len(payload):,} bytes",
            )
        return payload


def choose_revision(order: Order, current: Mapping[str, Current]) -> int:
    """One revision for all things: what was asked for, else one above all that is known of them.

    Raises:
        UsageError: a thing would refuse what was asked for, or nothing was asked for and a thing cannot be read.
    """
    highest = {thing: found.highest for thing, found in current.items()}
    top = max((revision for revision in highest.values() if revision is not None), default=0)
    if order.revision is None:
        _check_readable(current)
        return top + 1
    payload = None if order.text is None else with_revision(order.text, order.revision).encode()
    refusing = {
        thing: revision
        for thing, revision in highest.items()
        if revision is not None and revision >= order.revision and not _is_there(order, payload, current[thing])
    }
    if refusing:
        shown = [f"{thing} is at revision {revision}" for thing, revision in list(refusing.items())[:5]]
        more = [f"and {len(refusing) - 5} more"] if len(refusing) > 5 else []
        remedy = "take `revision:` out of the file" if order.asked_by != "--revision" else "leave --revision out"
        raise UsageError(
            "Revisions only rise: a thing refuses one that is not above its last.",
            where=order.asked_by,
            expected=f"{top + 1} or more",
            got=f"{order.revision}, and {', '.join([*shown, *more])}",
            remedy=f"{remedy[0].upper()}{remedy[1:]}, and mli deploy counts by itself.",
        )
    return order.revision


def _is_there(order: Order, payload: bytes | None, current: Current) -> bool:
    """Whether the thing has been sent just this: then sending it again changes nothing."""
    if current.highest != order.revision:
        return False
    wanted, report = current.wanted, current.report
    if payload is None:
        return wanted is not None and wanted.kind == "cancel"
    if wanted is not None and wanted.revision == order.revision:
        return wanted.payload == payload
    return report is not None and report.revision == order.revision and report.identity == order.identity


def _check_readable(current: Mapping[str, Current]) -> None:
    for thing, found in current.items():
        if found.refused is not None and found.highest is None:
            raise UsageError(
                f"The revision of {thing} cannot be read, so the next one is not known.",
                got=found.refused.got or found.refused.what,
                remedy=f"Give --revision, or let this user read {deployment_topic(thing)} at the broker.",
            )
