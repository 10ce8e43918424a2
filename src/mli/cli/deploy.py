"""``mli deploy``: send a model or settings to devices, and follow them to the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mli.cli.aws_account import Profile, Region
from mli.cli.aws_line import Endpoint, OnAws, Reach, reach_aws, refuse_aws_options
from mli.cli.deploy_view import remark
from mli.cli.options import BrokerCa, ClientCertificate, ClientKey, PasswordFile, Username
from mli.cli.to_type import tells_what_to_type
from mli.errors import RetryError, UsageError

if TYPE_CHECKING:
    from mli.core.sending.checked_file import CheckedFile
    from mli.core.sending.current import Current
    from mli.core.sending.order import Order

_AWS_THINGS = 16
"""Three subscriptions a thing, and AWS IoT Core closes a connection that has more than 50."""
_AWS_BYTES = 128 * 1024
"""AWS IoT Core ends the connection of who sends more."""


@tells_what_to_type
def deploy(
    file: Annotated[Path | None, typer.Argument(help="The deployment: what runs, and with which models.")] = None,
    thing: Annotated[list[str] | None, typer.Option(help="Send it to this thing; may be said several times.")] = None,
    things: Annotated[Path | None, typer.Option(help="File with the name of a thing on each line.")] = None,
    broker: Annotated[
        str | None, typer.Option(help="mqtt://[user:password@]host[:port], mqtts://…, or host[:port].")
    ] = None,
    aws: OnAws = False,
    profile: Profile = None,
    region: Region = None,
    endpoint: Endpoint = None,
    ca: BrokerCa = None,
    cert: ClientCertificate = None,
    key: ClientKey = None,
    username: Username = None,
    password_file: PasswordFile = None,
    sign: Annotated[Path | None, typer.Option(help="Private key (Ed25519, PEM) that the things trust.")] = None,
    expires: Annotated[str, typer.Option(help="For how long what is signed can be taken.")] = "7d",
    revision: Annotated[int | None, typer.Option(min=0, help="[default: one above what the things had]")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow each thing to its end; exit 1 when one is not healthy.")
    ] = False,
    timeout: Annotated[str, typer.Option(help="How long --wait waits.")] = "30m",
    cancel: Annotated[
        bool, typer.Option("--cancel", help="End the deployment under way; what runs goes on. Takes no FILE.")
    ] = False,
    root: Annotated[
        Path | None, typer.Option(help="Hand it to the core of this folder on this machine; no broker, no signature.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="With --root: also what that core took back and does not take any more.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each change.")] = False,
) -> None:
    """Send a deployment to devices; the broker keeps it for those that are away."""
    if file is None and not cancel:
        raise UsageError("no deployment is named", remedy="mli deploy FILE --thing NAME --broker URL")
    if file is not None and cancel:
        raise UsageError("--cancel takes no file", got=str(file), remedy="leave the file out")
    timeout_s = _seconds(timeout, "--timeout")
    if root is not None:
        needless = {"--thing": thing, "--things": things, "--broker": broker, "--sign": sign, "--revision": revision}
        needless["--aws"] = aws or None
        _refuse_needless([option for option, value in needless.items() if value is not None])
        from mli.cli.deploy_here import cancel_here, deploy_here

        if file is None:
            raise typer.Exit(cancel_here(root))
        raise typer.Exit(deploy_here(file, root, again=again, wait=wait, timeout_s=timeout_s, as_json=as_json))
    if again:
        raise UsageError(
            "--again is for the device itself, with --root", remedy="change what was wrong, and send that"
        )
    from mli.core.sending.things import things_of

    names = things_of(thing or [], things)
    if aws:
        needless = {"--broker": broker, "--cert": cert, "--key": key}
        needless |= {"--username": username, "--password-file": password_file}
        _refuse_many(names)
        reach = reach_aws(profile, region, endpoint, ca, needless)
        _refuse_unknown(reach, names)
    else:
        refuse_aws_options({"--profile": profile, "--region": region, "--endpoint": endpoint})
        reach = _reach_broker(broker, username, password_file, ca, cert, key)
        if reach.is_aws:
            _refuse_many(names)
    order = _order(_checked(file, names), sign, _seconds(expires, "--expires"), revision)
    raise typer.Exit(_send(reach, names, order, wait=wait, timeout_s=timeout_s, as_json=as_json))


def _refuse_needless(options: list[str]) -> None:
    if options:
        raise UsageError(
            "--root hands the deployment to the core of this machine, without a broker",
            got=", ".join(options),
            remedy="leave out --root, or the others",
        )


def _reach_broker(
    broker: str | None,
    username: str | None,
    password_file: str | None,
    ca: str | None,
    cert: str | None,
    key: str | None,
) -> Reach:
    if broker is None:
        raise UsageError(
            "nothing says where to send it",
            remedy="name the broker that the things use: --broker URL, or --aws; or this machine's core: --root DIR",
        )
    from mli.config.broker_url import parse_broker_url

    return Reach(
        parse_broker_url(
            broker,
            username=username,
            password_file=password_file,
            ca_path=ca,
            certificate_path=cert,
            private_key_path=key,
        )
    )


def _refuse_many(names: Sequence[str]) -> None:
    if len(names) > _AWS_THINGS:
        raise UsageError(
            "AWS IoT Core lets one connection follow only a few things",
            expected=f"at most {_AWS_THINGS} things at a time",
            got=f"{len(names)} things",
            remedy="run mli deploy several times, or deploy to a thing group with Greengrass",
        )


def _refuse_unknown(reach: Reach, names: Sequence[str]) -> None:
    """What is sent to a thing that nobody has stays at the broker for ever."""
    if reach.account is None:
        return
    from mli.cloud.thing_names import must_be_there

    caution = must_be_there(reach.account, names)
    if caution:
        remark(caution)


def _refuse_large(size_bytes: int) -> None:
    if size_bytes > _AWS_BYTES:
        raise UsageError(
            "the deployment is too large for AWS IoT Core",
            expected=f"at most {_AWS_BYTES:,} bytes, with the envelope of a signed one",
            got=f"{size_bytes:,} bytes",
        )


def _checked(file: Path | None, names: Sequence[str]) -> CheckedFile | None:
    """The file to send; None for a cancellation."""
    from mli.core.sending.checked_file import check_file

    if file is None:
        return None
    checked = check_file(file, names)
    for warning in checked.warnings:
        remark(warning)
    return checked


def _order(checked: CheckedFile | None, sign: Path | None, lasting_s: float, revision: int | None) -> Order:
    from mli.core.envelope import key_id_of, load_private_key
    from mli.core.sending.order import Order

    key = None if sign is None else load_private_key(sign)
    expires_at = time.time() + lasting_s
    if checked is None:
        return Order(expires_at, revision=revision, key=key)
    if checked.trust is not None:
        if key is None:
            raise UsageError(
                "a deployment that says whom to trust must be signed",
                where=f"{checked.name}: trust",
                remedy="--sign KEY.pem, with a key that the things trust now",
            )
        if key_id_of(key.public_key()) not in checked.trust:
            remark(f"from then on, {sign} is not trusted any more: {checked.name} does not name its public key")
    asked = checked.revision if revision is None else revision
    asked_by = "--revision" if revision is not None else f"{checked.name}: revision"
    return Order(expires_at, checked.text, checked.identity, asked, asked_by, key)


def _send(reach: Reach, names: tuple[str, ...], order: Order, *, wait: bool, timeout_s: float, as_json: bool) -> int:
    """Send it, and show what becomes of it; the exit code."""
    from mli.cli.deploy_view import counts_text, make_view
    from mli.core.sending.current import Reader
    from mli.core.sending.order import choose_revision
    from mli.core.sending.rollout import Rollout, lost_line
    from mli.delivery.remote import RemoteSession

    sent = False
    ends: dict[str, str] = {}
    try:
        with RemoteSession(reach.settings, access=reach.access) as session:
            reader = Reader(names)
            current = reader.read(session)
            revision = choose_revision(order, current)
            _warn_of_signatures(order, current)
            aim = order.aim(revision)
            messages = order.messages(names, revision)
            if reach.is_aws:
                _refuse_large(max(map(len, messages.values())))
            to = names[0] if len(names) == 1 else f"{len(names):,} things"
            remark(f"{'cancelling' if order.text is None else 'sending'} as revision {revision} to {to}")
            rollout = Rollout(session, reader, messages, aim, wait=wait, timeout_s=timeout_s)
            sent = True
            with make_view(names, aim.good, as_json=as_json, steps=wait) as view:
                for change in rollout.run():
                    if change is None:
                        view.idle()
                        continue
                    if change.ended:
                        ends[change.thing] = change.state
                    view.change(change)
    except KeyboardInterrupt:
        if sent:
            remark("interrupted; what was sent goes on. The same command with --wait follows it, --cancel ends it.")
        raise typer.Exit(130) from None
    except RetryError as error:
        if not sent:
            raise
        raise lost_line(error, len(names) - len(ends)) from error
    if len(names) > 1:
        remark(counts_text(ends.values()))
    return 0 if set(ends.values()) == {aim.good if wait else "sent"} else 1


def _warn_of_signatures(order: Order, current: dict[str, Current]) -> None:
    signed = [thing for thing, found in current.items() if found.signed_by]
    if order.key is None and signed:
        remark(f"{signed[0]} was sent a signed deployment last, and this one is not (--sign): it may be refused")


def _seconds(text: str, option: str) -> float:
    from mli.config.units import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option} is no duration", expected="such as 30m or 7d", got=text) from error
    if seconds <= 0:
        raise UsageError(f"{option} is no time at all", got=text)
    return seconds
