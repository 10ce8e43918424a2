"""mli as a component of either engine: what is predicted arrives, whatever is deployed, killed or restarted."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.fixtures.bad_models import crashing_on_white, not_numbers
from tests.fixtures.brokers import Certificates, Mosquitto
from tests.fixtures.color_model import color_archive, white_image
from tests.fixtures.component_device import NEW, OLD, ComponentDevice, component_device
from tests.fixtures.core_process import WitnessedBroker, check_unbroken, models_of, sha256_of, without_repeats
from tests.fixtures.greengrass_ipc import Engine
from tests.fixtures.hostile_http import HostileServer
from tests.fixtures.mli_process import run_mli
from tests.fixtures.swift_server import ACCESS_KEY, REGION, SECRET_KEY, SwiftServer

MakeDevice = Callable[..., ComponentDevice]
ENGINES: tuple[Engine, ...] = ("classic", "lite")


@pytest.fixture
def make_device(
    tmp_path: Path, witnessed_broker: WitnessedBroker, request: pytest.FixtureRequest
) -> Iterator[MakeDevice]:
    """A device whose broker no test touches."""
    with ExitStack() as stack:

        def make(engine: Engine, **options: object) -> ComponentDevice:
            thing = f"component-{request.node.name}".replace("[", "-").replace("]", "")[:128]
            return stack.enter_context(
                component_device(
                    tmp_path, witnessed_broker.broker, witnessed_broker.witness, thing, engine, **options
                )
            )

        yield make


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_predicted_reaches_the_broker_and_nothing_is_lost_at_the_end(
    make_device: MakeDevice, engine: Engine
) -> None:
    device = make_device(engine)
    device.start(device.deployment(device.old))
    device.wait_for_frames(5)
    status = device.status()
    assert status["broker"]["connected"]
    assert "nucleus" in status["broker"]["endpoint"]
    assert status["delivered"] == 0, "nobody has said that anything was delivered"
    assert status["handed_on"]["messages"] >= 5
    assert status["handed_on"]["to"] == "the nucleus"
    (pipeline,) = status["pipelines"]
    assert pipeline["memory"]["allowed_bytes"] == 500 * 1024**2
    assert pipeline["memory"]["control"] in ("cgroup v1", "cgroup v2", "watchdog"), "whatever the engine does"
    told = run_mli("core", "status", "--root", device.root, state=device.folder).stdout
    assert "messages to the nucleus, which says nothing of their delivery" in told
    assert device.component.stop() == 0
    device.wait(lambda: device.summaries()[-1]["state"] == "offline", "the last word")
    check_unbroken(device.seen(), device.labels, device.images)
    with closing(sqlite3.connect(device.root / "spool.db")) as spool:
        account = dict(spool.execute("SELECT name, count FROM account"))
    assert account == {"accepted": len(device.seen()), "handed_on": len(device.seen())}
    assert {one.qos for one in device.nucleus.published} == {"1"}
    assert {one.retain for one in device.nucleus.published if "status" in one.topic} == {True}


def test_classic_switches_live_goes_back_and_is_left_alone_by_the_same_again(make_device: MakeDevice) -> None:
    device = make_device("classic")
    old, new = (
        {**device.deployment(archive), "revision": 7 - index}
        for index, archive in enumerate([device.old, device.new])
    )
    device.start(old)
    device.wait_for_frames(3)
    pid = device.component.pid
    told = len(device.reports())
    assert device.deploy(new) == "SUCCEEDED"
    healthy = {"revision": 6, "state": "healthy"}
    device.wait(lambda: healthy.items() <= device.reports()[-1].items(), "the lower revision, taken as well")
    device.wait_for_frames(3, model=device.new)
    worker, told = device.workers(), len(device.reports())
    assert device.deploy(new) == "SUCCEEDED"
    device.wait_for_frames(3)
    assert device.workers() == worker
    assert len(device.reports()) == told
    assert device.deploy(old) == "SUCCEEDED"
    device.wait_for_frames(3, model=device.old)
    assert device.deploy(old, device={"log": {"format": "json"}}) == "SUCCEEDED"
    device.wait(lambda: device.log("^{"), "a core with another log")
    device.wait_running()
    device.wait_for_frames(3, model=device.old)
    assert device.component.pid == pid
    assert device.component.installs == 1
    assert device.component.stop() == 0
    check_unbroken(device.seen(), device.labels, device.images)
    assert models_of(device.seen()) == [sha256_of(one) for one in (device.old, device.new, device.old)]
    assert len(device.log("the trial of .* passed")) == 2, "what was proved once is not tried again"
    assert not device.log(device.nucleus.token)


def test_classic_is_told_why_a_deployment_is_no_good_and_nothing_changes(make_device: MakeDevice) -> None:
    device = make_device("classic")
    bad = color_archive(device.folder, "bad.zip", model=not_numbers)
    device.start(device.deployment(device.old))
    device.wait_for_frames(3)
    worker, before = device.workers(), device.nucleus.configuration
    verdict = device.deploy(device.deployment(bad))
    assert verdict.startswith("FAILED_NO_STATE_CHANGE: ")
    assert "finite" in verdict, verdict
    report = device.wait_for_state("refused")
    assert report["serving"]["identity"] == device.status()["identity"]
    assert "finite" in str(report["error"])
    verdict = device.deploy({**device.deployment(device.new), "pipeline": {}})
    assert "unknown key" in verdict, verdict
    verdict = device.deploy(device.deployment(device.new), delivery="pigeon")
    assert "delivery" in verdict, verdict
    verdict = device.deploy(device.deployment(device.folder / "old.zip", images="../.."))
    assert "allow" in verdict, verdict
    assert device.nucleus.configuration == before
    assert device.nucleus.propose(device.configuration(device.deployment(device.new))) is None
    device.wait_for_frames(3)
    assert device.workers() == worker, "what is only proposed does not run"
    assert models_of(device.seen()) == [sha256_of(device.old)]
    check_unbroken(device.seen(), device.labels, device.images)


def test_classic_has_its_answer_in_time_also_where_the_proof_takes_longer(make_device: MakeDevice) -> None:
    device = make_device("classic")
    device.start(device.deployment(device.old))
    assert device.deploy(device.deployment(device.new), validate_within="1ms") == "SUCCEEDED"
    assert device.log("not proved within")
    device.wait_for_frames(3, model=device.new)
    device.wait_for_state("healthy")
    check_unbroken(device.seen(), device.labels, device.images)


def test_lite_restarts_the_component_at_each_change_and_no_frame_is_missing(make_device: MakeDevice) -> None:
    device = make_device("lite")
    device.start(device.deployment(device.old))
    device.wait_for_frames(3)
    assert device.deploy(device.deployment(device.new)) == "SUCCEEDED"
    device.wait_for_frames(3, model=device.new)
    device.wait_for_state("healthy")
    device.wait_for_frames(3)
    trials = len(device.log("the trial of"))
    assert device.deploy(device.deployment(device.new)) == "SUCCEEDED"
    device.wait_for_frames(3)
    assert len(device.log("the trial of")) == trials, "the same again is not tried again"
    assert device.component.installs == 3
    assert device.component.stop() == 0
    seen = device.seen()
    check_unbroken(seen, device.labels, device.images)
    assert models_of(seen) == [sha256_of(device.old), sha256_of(device.new)]


def test_lite_is_served_on_by_the_old_model_where_the_new_one_is_no_good(make_device: MakeDevice) -> None:
    device = make_device("lite")
    bad = color_archive(device.folder, "bad.zip", model=not_numbers)
    device.start(device.deployment(device.old))
    device.wait_for_frames(3)
    assert device.deploy(device.deployment(bad)) == "SUCCEEDED", "the engine knows nothing else"
    report = device.wait_for_state("refused")
    assert report["serving"] is not None
    device.wait_for_frames(3, model=device.old)
    assert device.deploy({"models": {}}, delivery="pigeon") == "SUCCEEDED"
    device.wait(lambda: "delivery" in str(device.reports()[-1]["error"]), "the configuration's fault")
    device.wait_for_frames(3, model=device.old)
    assert device.component.stop() == 0
    check_unbroken(device.seen(), device.labels, device.images)
    assert models_of(device.seen()) == [sha256_of(device.old)]


def test_what_fails_at_work_is_taken_back_and_not_tried_again_by_a_restart(make_device: MakeDevice) -> None:
    device = make_device("lite")
    bad = color_archive(device.folder, "bad.zip", labels=NEW, model=crashing_on_white)
    device.labels[sha256_of(bad)] = NEW
    for index in range(5):
        white_image(device.folder / "images" / f"frame-{9 + index}.png")
    device.start(device.deployment(device.old))
    device.deploy(device.deployment(bad))
    report = device.wait_for_state("rolled_back", deadline_s=60)
    assert report["error"]["what"]
    device.wait_for_frames(3, model=device.old)
    assert device.component.stop() == 0
    told = len(device.reports())
    device.component.start()
    device.wait_running()
    device.wait_for_frames(3, model=device.old)
    assert device.wait_for_state("rolled_back", since=told)["serving"] == report["serving"]
    assert models_of(device.seen())[-1] == sha256_of(device.old)
    assert len(device.log("is taken back")) == 1
    check_unbroken(without_repeats(device.seen()), {**device.labels, sha256_of(device.old): OLD})


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_component_and_a_nucleus_that_was_away_lose_nothing(make_device: MakeDevice, engine: Engine) -> None:
    device = make_device(engine)
    device.start(device.deployment(device.old))
    device.wait_for_frames(3)
    device.component.kill()
    device.component.start()
    device.wait_running()
    device.wait_for_frames(3)
    device.nucleus.stop()
    device.wait(lambda: device.status()["spool"]["queued"] >= 5, "predictions that wait")
    assert not device.status()["broker"]["connected"]
    device.component.kill()
    device.component.start()  # its configuration cannot be asked for: it is as it was
    device.wait_answering()
    device.wait(lambda: len(device.workers()) == 1, "the worker")
    queued = device.status()["spool"]["queued"]
    device.wait(lambda: device.status()["spool"]["queued"] >= queued + 3, "more predictions")
    device.nucleus.start()
    device.wait_running()
    device.wait(lambda: device.status()["spool"]["queued"] <= 1, "an empty queue")
    told = device.deploy(device.deployment(device.new))
    assert told == "SUCCEEDED"
    device.wait_for_frames(3, model=device.new)
    assert device.component.stop() == 0
    check_unbroken(sorted(without_repeats(device.seen()), key=lambda one: one.sequence), device.labels)


def test_a_connection_of_its_own_is_used_where_the_key_can_be_read_and_else_predictions_wait(
    make_device: MakeDevice, make_mosquitto: Callable[..., Mosquitto], certificates: Certificates, tmp_path: Path
) -> None:
    broker = make_mosquitto(certificates=certificates)
    folder = tmp_path / "certs"
    folder.mkdir()
    shutil.copy(certificates.ca, folder / "root.ca.pem")
    device = make_device("classic", environ={"GG_ROOT_CA_PATH": str(folder / "root.ca.pem")})
    own = {"mqtt": {"host": "localhost", "port": broker.port}}
    device.start(device.deployment(device.old), delivery="mqtt", device=own)
    device.wait(lambda: device.status()["spool"]["queued"] >= 3, "predictions that wait")
    device.wait(lambda: "thing.cert.pem" in str(device.summaries()[-1]["last_error"]), "what is wrong, at the broker")
    assert "choose delivery: nucleus" in device.summaries()[-1]["last_error"]
    assert device.seen() == []
    shutil.copy(certificates.client, folder / "thing.cert.pem")
    shutil.copy(certificates.client_key, folder / "thing.private.key")
    assert device.component.stop() == 0
    listener = broker.subscribe(f"mli/predictions/{device.thing}", 5)
    device.component.start()
    lines = [line for line in listener.communicate(timeout=60)[0].splitlines() if line.startswith("got ")]
    first = [json.loads(line[line.index("{") :])["sequence"] for line in lines]
    assert first == [1, 2, 3, 4, 5], "those that waited went first"
    device.wait_running()
    assert device.status()["broker"]["protocol"] == "MQTT 5"
    assert device.status()["handed_on"] is None
    assert f"as {device.thing}-mli" in (broker.folder / "mosquitto.log").read_text()
    assert device.deploy(device.deployment(device.old), delivery="nucleus") == "SUCCEEDED"
    device.wait_for_frames(3)
    assert device.component.stop() == 0


def test_the_model_comes_from_s3_with_the_keys_of_the_token_exchange_service(
    make_device: MakeDevice, swift: SwiftServer, make_server: Callable[..., HostileServer]
) -> None:
    expires = datetime.now(UTC) + timedelta(hours=1)
    keys = {
        "AccessKeyId": ACCESS_KEY,
        "SecretAccessKey": SECRET_KEY,
        "Token": "a-session",
        "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    service = make_server(
        lambda talk: talk.json(keys, 200 if talk.headers.get("authorization") == "a-token" else 403)
    )
    variables = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{service.url}/2016-11-01/credentialprovider/",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "a-token",
    }
    device = make_device("lite", environ=variables)
    deployment = device.deployment(device.old)
    deployment["models"]["color"]["uri"] = swift.put("component.zip", device.old.read_bytes())
    device.start(deployment, device={"store": {"endpoint": swift.endpoint, "region": REGION}})
    device.wait_for_frames(3)
    assert not device.log(SECRET_KEY)
    assert not device.log("a-token")


def test_without_a_nucleus_it_says_what_is_missing(tmp_path: Path) -> None:
    done = run_mli("component", "run", "--root", tmp_path / "work", state=tmp_path)
    assert done.returncode == 2
    assert "this is no component of Greengrass" in done.stderr
    for name in (
        "AWS_IOT_THING_NAME",
        "SVCUID",
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT",
        "mli core start",
    ):
        assert name in done.stderr
