"""What is to be sent, and under which revision: counted from what the broker holds, or given and then checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mli.config.settings import TrustAnchor
from mli.core.envelope import MAX_MESSAGE_BYTES, key_id_of, seal, seal_cancel
from mli.core.sending.current import Current
from mli.core.sending.revision_text import with_revision
from mli.core.sending.rollout import Aim
from mli.core.topics import deployment_topic
from mli.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SHOWN = 5


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

    Where all have been sent just this, signed by the same key, it stays the same: so a command does nothing twice.

    Raises:
        UsageError: a thing would refuse what was asked for, or nothing was asked for and a thing cannot be read.
    """
    if order.key is not None:  # else whoever may publish could use up the revisions of things that trust a key
        anchor = _anchor(order.key)
        current = {thing: found.looked_at(thing, anchor) for thing, found in current.items()}
    highest = {thing: found.highest for thing, found in current.items()}
    top = max((revision for revision in highest.values() if revision is not None), default=0)
    if order.revision is None:
        _check_readable(current)
        by = None if order.key is None else key_id_of(order.key.public_key())
        same = all(_are_there(order, top, current).values()) and all(
            item.signed_by == by for item in current.values()
        )
        return top if same else top + 1
    there = _are_there(order, order.revision, current)
    refusing = [
        f"{thing} is at revision {revision}"
        for thing, revision in highest.items()
        if revision is not None
        and revision >= order.revision
        and not there[thing]
        and _is_sure(order, current[thing])
    ]
    if refusing:
        more = [f"and {len(refusing) - _SHOWN} more"] if len(refusing) > _SHOWN else []
        leave = "take `revision:` out of the file" if order.asked_by != "--revision" else "leave --revision out"
        raise UsageError(
            "Revisions only rise: a thing refuses one that is not above its last.",
            where=order.asked_by,
            expected=f"{top + 1} or more",
            got=f"{order.revision}, and {', '.join([*refusing[:_SHOWN], *more])}",
            remedy=f"{leave}, and mli deploy counts by itself",
        )
    return order.revision


def _is_sure(order: Order, found: Current) -> bool:
    """Whether a thing has really come to its revision; what nobody signed does not stop who has the key."""
    return order.key is None or found.is_proved or found.wanted is None


def _anchor(key: Ed25519PrivateKey) -> TrustAnchor:
    public = key.public_key()
    return TrustAnchor(key_id_of(public), public.public_bytes_raw().hex())


def _are_there(order: Order, revision: int, current: Mapping[str, Current]) -> dict[str, bool]:
    """Which things have been sent just this, under this revision and as their last: it may be sent again."""
    payload = None if order.text is None else with_revision(order.text, revision).encode()

    def is_there(found: Current) -> bool:
        wanted, report = found.wanted, found.report
        if found.highest != revision:
            return False
        if payload is None:
            return wanted is not None and wanted.kind == "cancel"
        if wanted is not None and wanted.revision == revision:
            return wanted.payload == payload
        return report is not None and report.revision == revision and report.identity == order.identity

    return {thing: is_there(found) for thing, found in current.items()}


def _check_readable(current: Mapping[str, Current]) -> None:
    for thing, found in current.items():
        if found.refused is not None and found.highest is None:
            raise UsageError(
                f"The revision of {thing} cannot be read, so the next one is not known.",
                got=found.refused.got or found.refused.what,
                remedy=f"Give --revision, or let this user read {deployment_topic(thing)} at the broker.",
            )
