"""``mli deploy`` to real cores: signed, cancelled, replayed, with keys that change, and over the control socket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.fixtures.brokers import free_port
from tests.fixtures.color_model import color_archive, numbered_images
from tests.fixtures.core_process import CoreProcess, WitnessedBroker, sha256_of
from tests.fixtures.mli_process import run_mli, start_mli
from tests.fixtures.published_schemas import check_document

from mli.core.topics import deployment_topic


class Desk:
    """A workstation's folder with keys and deployments, and one device."""

    def __init__(self, core: CoreProcess, witnessed: WitnessedBroker) -> None:
        self.core = core
        self.folder = core.folder
        self.broker = f"127.0.0.1:{witnessed.broker.port}"
        self.archive = color_archive(self.folder)
        numbered_images(self.folder / "images", 3)
        self.pems = {name: self._key(name) for name in ("old", "new")}

    def _key(self, name: str) -> str:
        key, public = self.folder / f"{name}.key", self.folder / f"{name}.pub.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
        return public.read_text()

    def write(self, name: str, **changes: object) -> str:
        """A deployment file; by default of the good model."""
        body = {
            "model": {"uri": f"file://{self.archive}", "sha256": sha256_of(self.archive)},
            "source": {"kind": "images", "uri": str(self.folder / "images"), "interval": "100ms"},
            "topic": "mli/predictions/{thing}/{pipeline}",
            **changes,
        }
        (self.folder / name).write_text(yaml.safe_dump(body))
        return name

    def to_thing(self, *arguments: object) -> list[object]:
        return ["deploy", *arguments, "--thing", self.core.thing, "--broker", self.broker]

    def deploy(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return run_mli(*self.to_thing(*arguments), state=self.folder, cwd=self.folder)

    def deploy_here(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return run_mli("deploy", *arguments, "--root", self.core.root, state=self.folder, cwd=self.folder)

    def newest_message(self) -> bytes:
        return self.core.witness.heard(deployment_topic(self.core.thing))[-1].payload


@pytest.fixture
def desk(tmp_path: Path, witnessed_broker: WitnessedBroker, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """The core is not started yet."""
    with witnessed_broker.core(tmp_path, f"deploy-{request.node.name[5:40]}") as core:
        yield Desk(core, witnessed_broker)


def test_signed_deployments_and_keys_that_change(desk: Desk) -> None:
    core = desk.core
    core.configure(trust=["old.pub.pem"])
    (core.root / "old.pub.pem").write_text(desk.pems["old"])
    core.start()
    desk.write("deployment.yaml")

    unsigned = desk.deploy("deployment.yaml", "--wait")
    assert unsigned.returncode == 1
    assert "refused" in unsigned.stdout
    assert "not signed" in unsigned.stdout
    assert "--sign" in unsigned.stdout

    first = desk.deploy("deployment.yaml", "--sign", "old.key", "--wait")
    assert first.returncode == 0, first.stdout
    assert f"{core.thing}  healthy" in first.stdout
    replayed = desk.newest_message()

    desk.write("rotated.yaml", top=2, trust=[desk.pems["new"]])
    rotated = desk.deploy("rotated.yaml", "--sign", "old.key", "--wait")
    assert rotated.returncode == 0, rotated.stdout
    assert "not trusted any more" in rotated.stderr

    stranger = desk.deploy("deployment.yaml", "--sign", "old.key", "--wait")
    assert stranger.returncode == 1
    assert "does not trust" in stranger.stdout
    assert desk.deploy("deployment.yaml", "--sign", "new.key", "--wait").returncode == 0

    refusals = len(core.reports())
    core.publish(replayed)
    core.wait(lambda: len(core.reports()) > refusals, "an answer to the replayed message")
    assert core.reports()[-1]["state"] == "refused"
    core.wait_for_frames()
    core.stop()
    check_documents(core)


def test_a_cancelled_download_does_not_come_back(desk: Desk) -> None:
    core = desk.core
    nowhere = f"https://localhost:{free_port()}/model.zip"
    core.configure(allow={"paths": [str(core.folder)], "hosts": ["localhost"]})
    core.start()
    desk.write("deployment.yaml")
    desk.write("away.yaml", model={"uri": nowhere, "sha256": "ab" * 32})
    assert desk.deploy("deployment.yaml", "--wait").returncode == 0

    waiting = start_mli(*desk.to_thing("away.yaml", "--wait"), state=desk.folder, cwd=desk.folder)
    assert waiting.stderr is not None
    begun = ("received", "downloading")  # the newest state gets there, and not always each one before it
    assert any(state in line for line in iter(waiting.stderr.readline, "") for state in begun)
    cancel = desk.deploy("--cancel", "--wait")
    assert cancel.returncode == 0, cancel.stdout
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert f"{core.thing}  cancelled" in output
    again = desk.deploy("--cancel", "--wait")
    assert again.returncode == 0, again.stdout

    core.restart()
    assert json.loads(desk.newest_message())["schema"] == "mli.cancel/1"
    core.wait_for_frames()
    assert core.status()["revision"] == 1
    assert core.states(2)[-1] == "cancelled"
    core.stop()
    check_documents(core)


def check_documents(core: CoreProcess) -> None:
    """All that the core said, and all that it was sent, is as published."""
    assert {document["state"] for document in core.summaries()} == {"online", "offline"}
    for summary in core.summaries():
        check_document("status", summary)
    for report in core.reports():
        check_document("deployment-status", report)
    messages = [item.payload for item in core.witness.heard(deployment_topic(core.thing))]
    for message in messages:
        if message.startswith(b'{"schema"'):
            check_document("deployment-message", json.loads(message))


def test_a_file_is_handed_to_the_core_of_this_machine(desk: Desk) -> None:
    core = desk.core
    desk.write("deployment.yaml")
    nobody = desk.deploy_here("deployment.yaml", "--wait")
    assert nobody.returncode == 1
    assert "mli core start" in nobody.stderr
    core.start()

    done = desk.deploy_here("deployment.yaml", "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{core.thing}  healthy after ")
    assert "canary" in done.stderr
    assert desk.deploy_here("deployment.yaml").stdout == f"{core.thing}  sent\n"
    assert "nothing was under way" in desk.deploy_here("--cancel").stdout

    wrong = desk.deploy_here(desk.write("wrong.yaml", tpo=3), "--wait")
    assert wrong.returncode == 2
    assert "wrong.yaml" in wrong.stderr
    missing = desk.deploy_here(desk.write("missing.yaml", model="none.zip"), "--wait")
    assert missing.returncode == 2
    assert "none.zip" in missing.stderr
    bad = desk.deploy_here(
        desk.write("bad.yaml", model={"uri": str(desk.archive), "sha256": "ab" * 32}), "--wait", "--json"
    )
    assert bad.returncode == 1
    assert json.loads(bad.stdout.splitlines()[-1])["state"] == "refused"
    core.wait_for_frames()
    core.stop()
