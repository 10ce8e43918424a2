"""``mli watch``: show predictions as they arrive at a broker, and keep account of them."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.aws_account import Profile, Region
from mli.cli.aws_line import Endpoint, OnAws, Reach, reach_aws, refuse_aws_options
from mli.cli.options import BrokerCa, ClientCertificate, ClientKey, PasswordFile, Username
from mli.cli.to_type import tells_what_to_type
from mli.errors import UsageError

if TYPE_CHECKING:
    from mli.delivery.subscriber import Account, Finding, GapCheck, Predictions, Received, Subscription

PREDICTIONS = "mli/predictions"
DEFAULT_TOPIC = f"{PREDICTIONS}/#"
DEFAULT_BROKER = "mqtt://localhost:1883"
_AWS_THINGS = 25
"""Two subscriptions a thing, and AWS IoT Core ends a connection that has more than 50."""
_SILENT_S = 15.0
"""After that a person wonders, and a name may have been mistyped."""
_BAR_CELLS = 10
_SHOWN_PREDICTIONS = 5


@tells_what_to_type
def watch(
    topic: Annotated[str | None, typer.Argument(help=f"MQTT topic filter. [default: {DEFAULT_TOPIC}]")] = None,
    thing: Annotated[
        list[str] | None, typer.Option(help="Only what this thing predicts; may be said several times.")
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            help=f"mqtt://[user:password@]host[:port], mqtts://…, or host[:port]. [default: {DEFAULT_BROKER}]"
        ),
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
    verify: Annotated[
        bool, typer.Option("--verify", help="Look for gaps and duplicates; exit 1 when something is missing.")
    ] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a message.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many messages.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds; end then. Exit 1 if --count was not reached.")
    ] = None,
) -> None:
    """Show predictions as they arrive at an MQTT broker."""
    from mli.config.broker_url import parse_broker_url
    from mli.delivery.subscriber import GapCheck, Subscription

    topics = _topics(topic, tuple(dict.fromkeys(thing or ())), aws)
    if aws:
        needless = {"--broker": broker, "--cert": cert, "--key": key}
        needless |= {"--username": username, "--password-file": password_file}
        reach = reach_aws(profile, region, endpoint, ca, needless)
    else:
        refuse_aws_options({"--profile": profile, "--region": region, "--endpoint": endpoint})
        settings = parse_broker_url(
            broker or DEFAULT_BROKER,
            username=username,
            password_file=password_file,
            ca_path=ca,
            certificate_path=cert,
            private_key_path=key,
        )
        reach = Reach(settings)
    check = GapCheck() if verify else None
    view = _View(topic or DEFAULT_TOPIC, json_lines)
    interrupted = False
    seen = 0
    subscription = Subscription(reach.settings, topics, access=reach.access)
    try:
        with subscription:
            at = f"{reach.settings.host}:{reach.settings.port}"
            view.note(f"watching {', '.join(topics)} at {at} ({subscription.protocol}); Ctrl-C ends")
            hint = _silence(thing, aws)
            for seen in _shown(subscription, view, check, count, timeout, hint):  # noqa: B007 the last number is wanted
                pass
    except KeyboardInterrupt:
        interrupted = True
    except BrokenPipeError:
        # Whoever read our output has enough; what is still buffered must go somewhere at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        count = None
    sound = _report(view, check, subscription.reconnects) if check is not None else True
    if interrupted:
        raise typer.Exit(130)
    if count is None and seen == 0 and timeout is not None:
        view.note(f"nothing came in {timeout:g} s")
    if count is not None and seen < count:
        view.note(f"only {seen} of {count} messages came in time")
        raise typer.Exit(1)
    if not sound:
        raise typer.Exit(1)


def _topics(topic: str | None, things: tuple[str, ...], on_aws: bool) -> list[str]:
    """The filters to subscribe to.

    Raises:
        UsageError: both a topic and things, a name that is none, or more than one connection can follow.
    """
    if not things:
        return [topic or DEFAULT_TOPIC]
    if topic is not None:
        raise UsageError("what to watch is said twice", got=f"{topic} and --thing", remedy="leave one out")
    from mli.core.sending.things import things_of

    names = things_of(things, None)
    if not on_aws:
        return [f"{PREDICTIONS}/{name}/#" for name in names]
    if len(names) > _AWS_THINGS:
        raise UsageError(
            "AWS IoT Core lets one connection follow only a few things",
            expected=f"at most {_AWS_THINGS} things at a time",
            got=f"{len(names)} things",
            remedy=f"watch {DEFAULT_TOPIC}, or run mli watch several times",
        )
    # To AWS IoT Core, unlike to other brokers, NAME/# does not mean NAME as well.
    return [filter_ for name in names for filter_ in (f"{PREDICTIONS}/{name}", f"{PREDICTIONS}/{name}/#")]


def _silence(things: list[str] | None, on_aws: bool) -> str:
    """What to look at when nothing comes."""
    if not things:
        return "nothing came yet; mli core status on a device says what it does"
    everything = "mli watch --aws" if on_aws else "mli watch without --thing"
    return f"nothing came yet; is it called {' or '.join(things)}? {everything} shows all things"


def _shown(
    subscription: Subscription,
    view: _View,
    check: GapCheck | None,
    count: int | None,
    timeout_s: float | None,
    hint: str,
) -> Any:
    """Show messages until enough came or the time is up; yields how many there were."""
    began = time.monotonic()
    deadline = None if timeout_s is None else began + timeout_s
    seen = 0
    while count is None or seen < count:
        left_s = 1.0 if deadline is None else deadline - time.monotonic()
        received = subscription.receive(min(left_s, 1.0))
        if received is None:
            if left_s <= 0:
                return
            if seen == 0 and hint and time.monotonic() - began > _SILENT_S:
                view.note(hint)
                hint = ""
            continue
        seen += 1
        # Counted before it is shown: Ctrl-C in between must not make the account fall short of what was seen.
        finding = check.feed(received) if check is not None else None
        view.message(received)
        if finding is not None:
            view.note(_finding_text(finding))
        yield seen


class _View:
    """Writes messages to standard output; remarks go to standard error, so that output can be piped."""

    def __init__(self, topic: str, json_lines: bool) -> None:
        self._json = json_lines
        # What every topic begins with tells nothing: only the rest is shown.
        self._prefix = topic[: -len("#")] if topic.endswith("/#") else ""
        self._console: Any = None
        if not json_lines and sys.stdout.isatty():
            from rich.console import Console

            self._console = Console(soft_wrap=True, highlight=False)

    def note(self, text: str) -> None:
        """A remark about the watching itself."""
        if text:
            print(text, file=sys.stderr, flush=True)

    def message(self, received: Received) -> None:
        """One message, one line."""
        from mli.delivery.subscriber import parse_payload

        if self._json:
            print(json.dumps(_as_json(received)), flush=True)
            return
        parts = _line(received, received.topic.removeprefix(self._prefix), parse_payload(received.payload))
        if self._console is None:
            print("  ".join(text for text, _ in parts if text).rstrip(), flush=True)
            return
        from rich.text import Text

        self._console.print(Text("  ").join(Text(text, style) for text, style in parts if text))


def _line(received: Received, tail: str, payload: object) -> list[tuple[str, str]]:
    """The parts of a message's line, each with the colour it has in a terminal."""
    from mli.delivery.one_line import one_line
    from mli.delivery.subscriber import Drops, Predictions, Unreadable

    at = datetime.fromtimestamp(received.received_at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    head = [(at, "dim"), (one_line(tail), "cyan")]
    if isinstance(payload, Predictions):
        return [*head, *_prediction_parts(payload)]
    if isinstance(payload, Drops):
        told = f"dropped {payload.count} of {payload.first}–{payload.last}: {one_line(payload.reason)}"
        return [*head, (told, "yellow")]
    assert isinstance(payload, Unreadable)
    text = one_line(received.payload.decode(errors="replace"), 120)
    return [*head, (f"? {one_line(payload.reason, 80)}", "yellow"), (text, "")]


def _prediction_parts(payload: Predictions) -> list[tuple[str, str]]:
    from mli.delivery.one_line import one_line

    rule = [] if payload.rule is None else [(f"rule {one_line(payload.rule)}:", "magenta")]
    image = [] if payload.image_name is None else [(one_line(payload.image_name), "dim")]
    if not payload.seen:
        return [*rule, ("nothing seen", "dim"), *image]
    first, others = payload.seen[0], payload.seen[1:]
    more = [f"{one_line(item.label)} {_percent(item.confidence)}" for item in others[: _SHOWN_PREDICTIONS - 1]]
    if len(payload.seen) > _SHOWN_PREDICTIONS:
        more.append(f"and {len(payload.seen) - _SHOWN_PREDICTIONS} more")
    return [
        *rule,
        (f"{one_line(first.label):<24}", "bold"),
        (_bar(first.confidence), "green"),
        (f"{_percent(first.confidence):>6}", "bold"),
        *image,
        (" · ".join(more), "dim"),
    ]


def _percent(confidence: float | None) -> str:
    usable = confidence is not None and confidence == confidence and abs(confidence) < 1e6
    return f"{confidence * 100:.1f}%" if usable and confidence is not None else "?"


def _bar(confidence: float | None) -> str:
    usable = confidence is not None and confidence == confidence
    filled = round(min(1.0, max(0.0, confidence)) * _BAR_CELLS) if usable and confidence is not None else 0
    return "█" * filled + "░" * (_BAR_CELLS - filled)


def _as_json(received: Received) -> dict[str, Any]:
    """``payload`` is the parsed JSON; where it is none, ``payload_text`` has the text instead."""
    body: dict[str, Any] = {"topic": received.topic, "received_at": received.received_at}
    try:
        body["payload"] = json.loads(received.payload, parse_constant=_no_number)
    except (ValueError, RecursionError):
        body["payload_text"] = received.payload.decode(errors="replace")
    return body | {"properties": dict(received.properties), "retained": received.retained}


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _finding_text(finding: Finding) -> str:
    from mli.delivery.one_line import one_line

    where = one_line(f"{finding.topic} {finding.pipeline}")
    which = f"{finding.first}" if finding.first == finding.last else f"{finding.first}–{finding.last}"
    texts = {
        "gap": f"gap: {which} did not come (yet)",
        "late": f"late: {which} came after all",
        "duplicate": f"duplicate: {which} came again",
        "declared": f"declared: {which} dropped by the device ({one_line(finding.reason)})",
        "restart": f"restart: a new spool begins at {which}",
    }
    return f"{where}: {texts[finding.kind]}"


def _report(view: _View, check: GapCheck, reconnects: int) -> bool:
    """Write the account; True when nothing is missing and something was checked."""
    from mli.delivery.one_line import one_line

    for name, account in check.streams().items():
        view.note(f"{one_line(name)}: {_account_text(account)}")
    total = check.total()
    if reconnects:
        view.note(f"the line to the broker was lost {reconnects} times; gaps may stem from that")
    if total.unchecked:
        view.note(
            f"{total.unchecked} messages carry no id and could not be checked"
            " (compact payload needs MQTT 5; or publish the full payload)"
        )
    if total.missing:
        view.note(f"MISSING: {total.missing} of {total.received + total.missing + total.declared}")
        return False
    if not total.received:
        view.note("nothing could be verified: no message with an id came")
        return False
    view.note(f"complete: {total.received} received, none missing")
    return True


def _account_text(account: Account) -> str:
    text = (
        f"{account.received} received, {account.missing} missing, {account.declared} declared dropped, "
        f"{account.duplicates} duplicates, {account.late} late, {account.restarts} restarts"
    )
    gaps = ", ".join(f"{first}–{last}" if last > first else f"{first}" for first, last in account.gaps)
    return f"{text}; missing: {gaps}" if gaps else text
