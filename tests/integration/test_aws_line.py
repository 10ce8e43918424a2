"""``mli watch --aws`` and ``mli deploy --aws`` as processes; a stand-in for AWS IoT Core checks their signatures."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.brokers import Certificates, wait_until
from tests.fixtures.iot_core import IotCore
from tests.fixtures.iot_credentials import GivenKeys
from tests.fixtures.iot_registry import FixedRegistry
from tests.fixtures.iot_signatures import Keys
from tests.fixtures.mli_process import kill_group, run_mli, start_mli
from tests.fixtures.moto_server import ACCESS_KEY, SECRET_KEY, MotoServer
from tests.fixtures.simulated_things import SimulatedThings, becomes, obey

ARN = "arn:aws:iot:eu-central-1:123456789012"
AWS_CLI = str(Path(sys.executable).with_name("aws"))
DEPLOYMENT = f"model: {{uri: s3://bucket/model.zip, sha256: {'ab' * 32}}}\nsource: demo\n"
SENT = "mli/deployments/line-1"


def policy(**resources: list[str]) -> Mapping[str, Any]:
    """Allowed actions of IoT by their names, each with its resources."""
    listed = [
        {"Effect": "Allow", "Action": f"iot:{action}", "Resource": [f"{ARN}:{name}" for name in names]}
        for action, names in resources.items()
    ]
    return {"Version": "2012-10-17", "Statement": listed}


OPERATOR = policy(
    Connect=["client/mli-watch-*", "client/mli-deploy-*"],
    Publish=["topic/mli/deployments/*"],
    RetainPublish=["topic/mli/deployments/*"],
    GetRetainedMessage=["topic/mli/deployments/*"],
    Subscribe=["topicfilter/mli/predictions/*", "topicfilter/mli/status/*", "topicfilter/mli/deployments/*"],
    Receive=["topic/mli/*"],
)
MINE = Keys(ACCESS_KEY, SECRET_KEY, (OPERATOR,))


@pytest.fixture
def iot(
    tmp_path: Path, certificates: Certificates, moto: MotoServer, moto_environment: dict[str, str]
) -> Iterator[IotCore]:
    """It knows the keys of the environment, and holds them to a policy; its registry has two things."""
    moto.reset()
    for name in ("line-1", "line-2"):
        moto.client("iot", moto_environment["AWS_REGION"]).create_thing(thingName=name)
    (tmp_path / "iot").mkdir()
    registry = FixedRegistry()
    core = IotCore(tmp_path / "iot", certificates, registry, [MINE], GivenKeys("mli-device", "a", "b"))
    core.start()
    yield core
    core.stop()


class Watch:
    """The command as a process, already subscribed."""

    def __init__(self, iot: IotCore, state: Path, *arguments: str) -> None:
        self.process = start_mli("watch", *at(iot), *arguments, state=state)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.output, self.errors = self.process.stdout, self.process.stderr
        self.greeting = self.errors.readline()
        assert self.greeting.startswith("watching "), self.greeting + self.process.communicate()[1]

    def payload(self) -> Any:
        return json.loads(self.output.readline())["payload"]


@pytest.fixture
def watching(iot: IotCore, tmp_path: Path) -> Iterator[Any]:
    """Starts watches that end with the test."""
    started: list[Watch] = []

    def start(*arguments: str) -> Watch:
        started.append(Watch(iot, tmp_path, *arguments))
        return started[-1]

    yield start
    for one in started:
        kill_group(one.process)


def at(iot: IotCore) -> list[str]:
    return ["--aws", "--endpoint", iot.endpoint, "--ca", str(iot.ca)]


def say(iot: IotCore, topic: str, value: object, *more: str) -> None:
    """As a device, behind the gate; it is acknowledged when this returns."""
    command = ["mosquitto_pub", "-p", str(iot.behind.port), "-q", "1", "-t", topic, "-m", json.dumps(value), *more]
    subprocess.run(command, check=True)


def test_predictions_are_watched_with_a_profile_alone(iot: IotCore, watching: Any) -> None:
    watch = watching("--json", "--count", "2")
    assert f"watching mli/predictions/# at localhost:{iot.port} (MQTT 5)" in watch.greeting
    say(iot, "mli/predictions/line-1", 1)
    say(iot, "mli/predictions/line-2/main", 2)
    assert [watch.payload(), watch.payload()] == [1, 2]
    assert watch.process.wait(30) == 0
    assert iot.denied == []


def test_one_things_predictions_are_those_on_its_topic_and_below(iot: IotCore, watching: Any) -> None:
    """To AWS, ``line-1/#`` does not mean ``line-1``."""
    watch = watching("--json", "--count", "2", "--thing", "line-1")
    assert "watching mli/predictions/line-1, mli/predictions/line-1/# at" in watch.greeting
    say(iot, "mli/predictions/line-10", 0)
    say(iot, "mli/predictions/line-1", 1)
    say(iot, "mli/predictions/line-1/main", 2)
    assert [watch.payload(), watch.payload()] == [1, 2]


def test_each_new_connection_is_signed_anew(iot: IotCore, watching: Any) -> None:
    """What was signed for the first has expired."""
    watch = watching("--json", "--count", "9")
    say(iot, "mli/predictions/line-1", 1)
    assert watch.payload() == 1
    iot.signed_since = int(time.time()) + 1.0  # paths say whole seconds, and the next is asked for a second later
    iot.cut()
    assert "was lost" in watch.errors.readline()
    assert "connected again" in watch.errors.readline()
    say(iot, "mli/predictions/line-1", 2)
    while (payload := watch.payload()) == 1:
        pass  # the first comes again where its acknowledgement was cut off
    assert payload == 2
    assert iot.denied == []


def test_a_session_that_ends_meanwhile_is_told_and_one_that_is_new_goes_on(iot: IotCore, watching: Any) -> None:
    watch = watching("--json", "--count", "1")
    iot.known_keys.clear()
    iot.cut()
    assert "was lost" in watch.errors.readline()
    told = watch.errors.readline()
    assert "no new connection, trying again: AWS IoT Core does not let these credentials connect." in told
    iot.known_keys.append(MINE)
    lines = iter(watch.errors.readline, "")
    assert any("connected again" in line for line in lines)
    say(iot, "mli/predictions/line-1", 1)
    assert watch.payload() == 1


def test_a_wrong_secret_is_told_with_what_to_look_at(iot: IotCore, tmp_path: Path) -> None:
    iot.known_keys[:] = [replace(MINE, secret_key="another")]
    done = run_mli("watch", *at(iot), state=tmp_path)
    assert done.returncode == 1
    for part in (
        "does not let these credentials connect",
        "iot:Connect",
        "HTTP 403: ForbiddenException",
        "eu-central-1",
    ):
        assert part in done.stderr
    assert "X-Amz" not in done.stderr
    assert any("does not match" in one for one in iot.denied)


def test_who_may_not_connect_hears_which_right_it_takes(iot: IotCore, tmp_path: Path) -> None:
    iot.known_keys[:] = [replace(MINE, policies=(policy(Connect=["client/another"]),))]
    done = run_mli("watch", *at(iot), state=tmp_path)
    assert done.returncode == 1
    assert "Not authorized" in done.stderr
    assert "iot:Connect on client/mli-watch-" in done.stderr


def test_who_may_not_subscribe_hears_which_right_it_takes(iot: IotCore, tmp_path: Path) -> None:
    iot.known_keys[:] = [replace(MINE, policies=(policy(Connect=["client/*"]),))]
    done = run_mli("watch", *at(iot), state=tmp_path)
    assert done.returncode == 1
    assert "ended the connection instead of answering the subscription" in done.stderr
    assert "iot:Subscribe" in done.stderr
    assert "mli/predictions/#" in done.stderr


def test_a_deployment_is_sent_and_followed_with_a_profile_alone(iot: IotCore, tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text(DEPLOYMENT)
    arguments = ["deploy", "deployment.yaml", "--thing", "line-1", "--thing", "line-2", "--wait", *at(iot)]
    with SimulatedThings(iot.behind.settings(), {"line-1": obey, "line-2": obey}):
        done = run_mli(*arguments, state=tmp_path, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert iot.denied == []
        shown = aws_cli(iot, "get-retained-message", "--topic", SENT)
        assert b"s3://bucket/model.zip" in base64.b64decode(json.loads(shown.stdout)["payload"])


def test_things_that_one_may_not_send_to_are_told_apart(iot: IotCore, tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text(DEPLOYMENT)
    mine: Any = json.loads(json.dumps(OPERATOR).replace("topic/mli/deployments/*", "topic/mli/deployments/line-2"))
    iot.known_keys[:] = [replace(MINE, policies=(mine,))]
    arguments = ["deploy", "deployment.yaml", "--thing", "line-1", "--thing", "line-2", *at(iot)]
    with SimulatedThings(iot.behind.settings(), {"line-2": obey}):
        done = run_mli(*arguments, state=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert "iot:Publish and iot:RetainPublish on topic/mli/deployments/line-1" in done.stdout + done.stderr
    assert any("iot:Publish on topic/mli/deployments/line-1" in one for one in iot.denied)


def test_a_deployment_that_aws_would_not_take_is_refused_before_it_is_sent(iot: IotCore, tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text(DEPLOYMENT + "# " + "x" * 140_000 + "\n")
    done = run_mli("deploy", "deployment.yaml", "--thing", "line-1", *at(iot), state=tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "too large for AWS IoT Core" in done.stderr
    assert "at most 131,072 bytes" in done.stderr
    assert iot.denied == []


def test_a_thing_that_nobody_has_is_sent_nothing(iot: IotCore, tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text(DEPLOYMENT)
    arguments = ["deploy", "deployment.yaml", "--thing", "line-1", "--thing", "line-9", *at(iot)]
    done = run_mli(*arguments, state=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert "There is no thing line-9 in eu-central-1; nothing was sent." in done.stderr
    assert b"ResourceNotFoundException" in aws_cli(iot, "get-retained-message", "--topic", SENT).stderr


def test_what_the_aws_cli_publishes_reaches_a_device(iot: IotCore, tmp_path: Path) -> None:
    """The way for who has no ``mli`` at hand: the stack prints this command."""
    (tmp_path / "payload").write_text(DEPLOYMENT + "revision: 1\n")
    with SimulatedThings(iot.behind.settings(), {"line-1": becomes("healthy")}) as things:
        published = ["--topic", SENT, "--qos", "1", "--retain", "--payload", f"fileb://{tmp_path / 'payload'}"]
        done = aws_cli(iot, "publish", *published)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: things.messages, "the deployment")
    done = aws_cli(iot, "publish", "--topic", "mli/predictions/line-1", "--payload", "x")
    assert done.returncode != 0
    assert b"not authorized to perform: iot:Publish" in done.stderr


def aws_cli(iot: IotCore, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """``aws iot-data``, as the pages say it."""
    endpoint = ["--endpoint-url", f"https://{iot.endpoint}", "--ca-bundle", str(iot.ca)]
    return subprocess.run([AWS_CLI, "iot-data", *arguments, *endpoint], capture_output=True, timeout=60)
