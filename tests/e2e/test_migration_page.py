"""The commands of docs/migrate.md that need no device on AWS are run, as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fixtures.brokers import ROOT
from tests.fixtures.color_model import color_archive, numbered_images
from tests.fixtures.documented import lines_of
from tests.fixtures.greengrass_v1 import (
    BUCKET,
    CERTIFICATE_ID,
    CORE,
    MODEL,
    THING,
    device_folder,
    group_json,
)
from tests.fixtures.greengrass_v1_account import STACK, make_old_stack
from tests.fixtures.mli_process import MLI, environment
from tests.fixtures.moto_server import MotoServer

from mli.cloud.migration.writing import file_sha256
from mli.config.deployment import read_deployment
from mli.config.device import read_device

PAGE = ROOT / "docs" / "migrate.md"
GIVEN = {"CoreName": CORE, "CertIdParam": CERTIFICATE_ID, "ModelS3Uri": MODEL}


def commands(heading: str, until: str | None = None) -> list[str]:
    """Command lines below a heading of the page, up to a piece of text."""
    text = PAGE.read_text()
    start = text.index(f"\n{heading}\n") + 1
    section = text[start + len(heading) :]
    end = section.index(until) if until else section.find("\n## ")
    section = section[:end].replace("\\\n", " ")
    return [line for line in lines_of(PAGE) if line in section]


@dataclass
class Desk:
    """A workstation: a folder, an account that holds the old stack, and a device's folder."""

    folder: Path
    root: Path
    moto: MotoServer
    environment: dict[str, str]

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """A line of the page in a shell, its device's folder here."""
        line = line.replace("/greengrass", str(self.root)).replace("/root/", f"{self.folder}/device-")
        return subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=150,
            check=False,
        )

    def must(self, line: str) -> str:
        done = self.run(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def things(self) -> list[str]:
        return [item["thingName"] for item in self.moto.client("iot").list_things()["things"]]

    def make_old_stack(self) -> None:
        make_old_stack(self.moto.client("cloudformation"), GIVEN)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, moto: MotoServer) -> Desk:
    folder = tmp_path_factory.mktemp("desk")
    numbered_images(folder / "images", 2)
    color_archive(folder, "inception-bn.zip")
    programs = folder / "bin"
    programs.mkdir()
    for name, words in (("mli", MLI), ("aws", (sys.executable, "-m", "awscli"))):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (programs / name).chmod(0o755)
    own = environment(folder)
    variables = own | moto.environment() | {"PATH": f"{programs}:{own['PATH']}"}
    made = Desk(folder, device_folder(folder, group=group_json()), moto, variables)
    made.make_old_stack()
    return made


def test_the_old_stack_is_kept_and_becomes_mlis_files(desk: Desk) -> None:
    keep = commands("## 1. Protect the old stack, and keep what it says")
    assert len(keep) == 4
    for line in keep:
        desk.must(line)
    (migrate,) = commands("## 2. Read the old set-up")
    told = desk.must(migrate)
    assert "carried over" in told
    out = desk.folder / CORE
    form = read_deployment((out / "deployment.yaml").read_bytes(), "deployment.yaml")
    (model,) = form.expanded["models"].values()
    assert model == {"uri": MODEL, "sha256": file_sha256(desk.folder / "inception-bn.zip")}
    parameters = json.loads((out / "parameters.json").read_text())
    assert {f"CoreName={CORE}", f"CertIdParam={CERTIFICATE_ID}", "Adopt=true"} <= set(parameters)
    assert desk.must(migrate) == told  # again changes nothing


def test_old_and_new_are_compared_without_a_connection(desk: Desk) -> None:
    lines = commands("## 3. Compare, before anything changes")
    (run,) = [line for line in lines if line.startswith("mli run")]
    printed = desk.must(run)
    assert printed.count("image_name") == 2
    payload = [{"confidence": "0.9", "prediction": "n1 box", "image_name": "a.png"}]
    for name in ("old.jsonl", "new.jsonl"):
        (desk.folder / name).write_text(json.dumps({"topic": "x", "payload": payload}) + "\n")
    compare = [line for line in lines if line.startswith(("jq", "diff"))]
    assert len(compare) == 3
    assert "".join(map(desk.must, compare)) == ""
    payload[0]["prediction"] = "n2 bottle"
    (desk.folder / "new.jsonl").write_text(json.dumps({"topic": "x", "payload": payload}) + "\n")
    done = [desk.run(line) for line in compare]
    assert [item.returncode for item in done] == [0, 0, 1]


def test_the_devices_folder_gets_what_it_lacks_and_can_be_installed(desk: Desk) -> None:
    lines = commands("## 5. The device")
    before = {path: path.read_bytes() for path in desk.root.rglob("*") if path.is_file()}
    migrate, copy, check, doctor, look = lines[:5]
    desk.must(migrate)
    desk.must(copy)
    assert THING in desk.must(check)
    settings = read_device(desk.root).settings
    assert settings.store.role_alias == "mli-device"
    assert settings.mqtt is not None
    assert desk.run(doctor).returncode in (0, 1)  # there is no broker here
    assert "greengrass" in desk.run(look).stdout
    assert lines[5] == look.removesuffix(" --dry-run")
    assert {path: path.read_bytes() for path in before} == before


def test_the_old_stack_goes_and_the_thing_stays(desk: Desk) -> None:
    lines = commands("## Retire the old stack", "**Where CloudFormation takes no update**")
    role, boundary, simulate, *rest = lines
    assert simulate.startswith("aws iam simulate-principal-policy")  # which moto does not know
    desk.must(f"{role}; {boundary}")
    name = desk.must(f'{role}; printf %s "$ROLE"')
    found = desk.moto.client("iam").get_role(RoleName=name)["Role"]["PermissionsBoundary"]
    assert found["PermissionsBoundaryArn"].endswith("/AWSDenyAll")
    for line in rest:
        if line.startswith("aws iot list-thing-principals"):
            break
        told = desk.must(line)
        if "get-template" in line:
            kept = [words.split()[-1] for words in told.splitlines()]
            assert kept.count("Retain") == len(kept) - 1
    stacks = desk.moto.client("cloudformation").list_stacks()["StackSummaries"]
    assert [item["StackStatus"] for item in stacks] == ["DELETE_COMPLETE"]
    assert desk.things() == [THING]
    desk.must(line)


def test_without_the_change_the_thing_would_have_gone(desk: Desk) -> None:
    """That the test above can fail."""
    desk.moto.reset()
    desk.make_old_stack()
    assert desk.things() == [THING]
    desk.moto.client("cloudformation").delete_stack(StackName=STACK)
    assert desk.things() == []


def test_a_thing_that_is_gone_is_made_again(desk: Desk) -> None:
    arn = desk.moto.client("iot").create_keys_and_certificate(setAsActive=True)["certificateArn"]
    create, attach, deploy = commands("### If the thing is gone after all")
    desk.must(create)
    desk.must(attach.replace("CERTIFICATE-ARN", arn))
    assert desk.moto.client("iot").list_thing_principals(thingName=THING)["principals"] == [arn]
    assert deploy == f"mli stack deploy {CORE} --adopt"


def test_the_page_speaks_of_each_option(desk: Desk) -> None:
    text = PAGE.read_text()
    for option in re.findall(r"--[a-z-]+", desk.must("mli migrate --help")):
        if option != "--help":
            assert f"`{option}`" in text or (option == "--output-dir" and "`-o`" in text), option
    assert BUCKET not in text
