"""``mli deploy`` at a real mosquitto, with things that answer as cores do."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.brokers import Certificates, Mosquitto
from tests.fixtures.mli_process import run_mli, start_mli
from tests.fixtures.simulated_things import SimulatedThings, becomes, revision_of, status

from mli.config.pem import trust_anchor
from mli.config.settings import MqttSettings
from mli.core.envelope import Opened
from mli.core.sending.current import Reader
from mli.core.sending.order import Order, choose_revision
from mli.core.sending.rollout import Change, Rollout
from mli.core.status import DeploymentState, DeploymentStatus, Problem
from mli.core.topics import deployment_topic, report_topic
from mli.delivery.remote import RemoteSession

MakeMosquitto = Callable[..., Mosquitto]
TEXT = f"model: {{uri: s3://bucket/model.zip, sha256: {'ab' * 32}}}\nsource: demo\n"
CRASHED = Problem("The worker ended three times.", got="exit code -11", remedy="Look at its log.")


class Desk:
    """A folder with a deployment and a key, and the broker that the things use."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.folder = folder
        self.broker = broker
        (folder / "deployment.yaml").write_text(TEXT)

    def key(self, name: str = "deploy") -> Path:
        """A new pair of keys, made as the pages say; the private one."""
        key, public = self.folder / f"{name}.key", self.folder / f"{name}.pub.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
        return key

    def arguments(self, *arguments: object) -> list[object]:
        return ["deploy", *arguments, "--broker", f"127.0.0.1:{self.broker.port}"]

    def deploy(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """With the file, unless it is cancelled."""
        file = [] if "--cancel" in arguments else ["deployment.yaml"]
        return run_mli(*self.arguments(*file, *arguments), state=self.folder, cwd=self.folder)

    def retained(self, thing: str) -> bytes:
        command = ["mosquitto_sub", "-p", str(self.broker.port), "-t", deployment_topic(thing), "-C", "1", "-N"]
        return subprocess.run(command, check=True, capture_output=True, timeout=30).stdout


@pytest.fixture
def desk(make_mosquitto: MakeMosquitto, tmp_path: Path) -> Desk:
    return Desk(tmp_path, make_mosquitto())


def test_two_things_one_of_which_goes_back(desk: Desk) -> None:
    answers = {"line-1": becomes("healthy"), "line-2": becomes("rolled_back", CRASHED)}
    with SimulatedThings(desk.broker.settings(), answers):
        done = desk.deploy("--thing", "line-1", "--thing", "line-2", "--wait")
    assert done.returncode == 1, done.stderr
    first, second, *details = sorted(done.stdout.splitlines(), key=lambda line: not line.startswith("line"))
    assert first.startswith("line-1  healthy after ")
    assert second.startswith("line-2  rolled_back after ")
    assert details == [
        "  The worker ended three times.",
        "    found:    exit code -11",
        "    to fix:   Look at its log.",
    ]
    assert "line-2  downloading" in done.stderr
    assert done.stderr.endswith("mli: 1 healthy, 1 rolled_back\n")


def test_revisions_are_counted_and_a_cancellation_stays_in_the_deployments_place(desk: Desk) -> None:
    with SimulatedThings(desk.broker.settings(), {"line-1": becomes("healthy")}) as things:
        assert desk.deploy("--thing", "line-1").stdout == "line-1  sent\n"
        assert desk.deploy("--thing", "line-1", "--cancel").returncode == 0
        low = desk.deploy("--thing", "line-1", "--revision", 2)
        assert low.returncode == 2
        assert "line-1 is at revision 2" in low.stderr
        assert [revision_of(message) for message in things.messages["line-1"]] == [1, 2]
    assert json.loads(desk.retained("line-1"))["schema"] == "mli.cancel/1"


def test_a_signed_deployment_is_taken_where_an_unsigned_one_is_refused(desk: Desk) -> None:
    key = desk.key()
    trust = (trust_anchor((desk.folder / "deploy.pub.pem").read_text()),)
    with SimulatedThings(desk.broker.settings(), {"line-1": becomes("healthy")}, trust=trust):
        bare = desk.deploy("--thing", "line-1", "--wait")
        assert bare.returncode == 1
        assert "line-1  refused" in bare.stdout
        assert "--sign" in bare.stdout
        signed = desk.deploy("--thing", "line-1", "--wait", "--sign", key)
        assert signed.returncode == 0, signed.stdout
        assert desk.deploy("--thing", "line-1", "--sign", desk.key("other"), "--wait").returncode == 1
        assert "was sent a signed deployment last" in desk.deploy("--thing", "line-1").stderr


def test_json_has_a_line_for_each_change(desk: Desk) -> None:
    with SimulatedThings(desk.broker.settings(), {"line-1": becomes("rolled_back", CRASHED)}):
        done = desk.deploy("--thing", "line-1", "--wait", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["state"] for line in lines] == ["sent", "received", "downloading", "canary", "rolled_back"]
    assert [line["ended"] for line in lines] == [False] * 4 + [True]
    assert lines[2]["status"]["progress"] == {"model": "main", "bytes": 500, "total": 1000}
    assert lines[-1]["error"]["remedy"] == CRASHED.remedy
    assert done.returncode == 1


def test_a_thing_that_is_not_there_is_named_at_the_end_of_the_time(desk: Desk) -> None:
    done = desk.deploy("--thing", "line-9", "--wait", "--timeout", "200ms")
    assert done.returncode == 1
    assert "line-9  unanswered" in done.stdout
    assert "nothing of a thing with this name is known at this broker" in done.stdout
    assert desk.retained("line-9")


def test_a_list_of_things_with_a_file_that_trusts_another_key(desk: Desk) -> None:
    old, new = desk.key("old"), desk.key("new")
    pem = (desk.folder / "new.pub.pem").read_text()
    (desk.folder / "deployment.yaml").write_text(TEXT + json.dumps({"trust": [pem]})[1:-1])
    (desk.folder / "things.txt").write_text("line-1\nline-2\n")
    unsigned = desk.deploy("--things", "things.txt")
    assert unsigned.returncode == 2
    assert "must be signed" in unsigned.stderr
    signed = desk.deploy("--things", "things.txt", "--sign", old)
    assert "is not trusted any more" in signed.stderr
    assert signed.stdout.splitlines() == ["line-1  sent", "line-2  sent"]
    assert "not trusted" not in desk.deploy("--things", "things.txt", "--sign", new).stderr


def test_ctrl_c_says_that_the_deployment_goes_on(desk: Desk) -> None:
    process = start_mli(
        *desk.arguments("deployment.yaml", "--thing", "line-9", "--wait"), state=desk.folder, cwd=desk.folder
    )
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    assert any(line == "line-9  sent\n" for line in lines)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on" in errors
    assert "Traceback" not in errors


def test_what_the_broker_denies_is_told_for_each_thing(make_mosquitto: MakeMosquitto, tmp_path: Path) -> None:
    acl = "topic readwrite mli/deployments/line-1\ntopic read mli/deployments/#\ntopic read mli/status/#\n"
    desk = Desk(tmp_path, make_mosquitto(acl=acl))
    done = desk.deploy("--thing", "line-1", "--thing", "line-2")
    assert done.returncode == 1
    assert "line-1  sent" in done.stdout
    assert "line-2  not_sent" in done.stdout
    assert "not authorized" in done.stdout
    assert "mli/deployments/line-2" in done.stdout


def test_over_tls_with_a_client_certificate(
    make_mosquitto: MakeMosquitto, certificates: Certificates, tmp_path: Path
) -> None:
    broker = make_mosquitto(certificates=certificates)
    pair = ["--ca", certificates.ca, "--cert", certificates.client, "--key", certificates.client_key]
    assert Desk(tmp_path, broker).deploy("--thing", "line-1", *pair).stdout == "line-1  sent\n"


# --- many, and a line that is lost ---------------------------------------------------------------------------


def healthy_at_once(thing: str, opened: Opened, _: bytes) -> list[DeploymentStatus]:
    way: list[DeploymentState] = ["received", "verifying", "canary", "activating", "healthy"]
    return [status(thing, opened, state, identity=IDENTITY) for state in way]


IDENTITY = "ab" * 32


def roll_out(session: RemoteSession, things: list[str]) -> list[Change]:
    reader = Reader(things)
    order = Order(0.0, TEXT, IDENTITY)
    revision = choose_revision(order, reader.read(session))
    rollout = Rollout(
        session, reader, order.messages(things, revision), order.aim(revision), wait=True, timeout_s=120.0
    )
    return [change for change in rollout.run() if change is not None]


def test_a_thousand_things_over_one_connection(desk: Desk) -> None:
    """More messages than mosquitto keeps for a client: what it drops is asked for again."""
    things = [f"line-{number}" for number in range(1000)]
    with (
        SimulatedThings(desk.broker.settings(), dict.fromkeys(things, healthy_at_once)) as simulated,
        RemoteSession(MqttSettings("127.0.0.1", desk.broker.port)) as session,
    ):
        ended = {change.thing: change.state for change in roll_out(session, things) if change.ended}
        assert ended == dict.fromkeys(things, "healthy")
        assert {len(messages) for messages in simulated.messages.values()} == {1}


def test_a_broker_that_restarts_meanwhile(desk: Desk) -> None:
    broker = desk.broker
    with RemoteSession(MqttSettings("127.0.0.1", broker.port)) as session:
        reader = Reader(["line-1"])
        reader.read(session)
        order = Order(0.0, TEXT, IDENTITY)
        rollout = Rollout(session, reader, order.messages(["line-1"], 1), order.aim(1), wait=True, timeout_s=120.0)
        changes = rollout.run()
        assert next(change for change in changes if change).state == "sent"
        broker.stop(signal.SIGKILL)
        broker.start()
        with SimulatedThings(broker.settings(), {"line-1": healthy_at_once}) as things:
            document = status("line-1", Opened("deployment", TEXT.encode(), 1), "healthy", identity=IDENTITY)
            things.say(report_topic("line-1"), document.document())
            assert [change.state for change in changes if change] == ["healthy"]
