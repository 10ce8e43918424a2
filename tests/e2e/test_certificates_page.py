"""docs/certificates.md is walked from its first command to its last, at a stand-in for AWS."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from tests.fixtures.brokers import ROOT
from tests.fixtures.documented import lines_of
from tests.fixtures.mli_here import mli_here
from tests.fixtures.moto_server import MotoServer

from mli.cloud.names import SHARED_STACK, device_stack
from mli.cloud.template_text import template_text
from mli.config.settings import MqttSettings, TlsSettings
from mli.core.own_certificate import own_certificate_id

LINES = [line for line in lines_of(ROOT / "docs" / "certificates.md") if line.startswith("mli ")]


@pytest.fixture
def desk(tmp_path: Path, moto: MotoServer, moto_environment: dict[str, str]) -> Path:  # noqa: ARG001
    moto.reset()
    moto.client("cloudformation").create_stack(
        StackName=SHARED_STACK, TemplateBody=template_text("shared"), Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    return tmp_path


def certificate_id(path: Path) -> str:
    found = own_certificate_id(MqttSettings("b", 1, "t", TlsSettings(None, str(path), None, None)))
    assert found is not None
    return found


def make_stack(moto: MotoServer, core: str, certificate: str) -> None:
    """What `mli stack deploy` does has tests of its own."""
    parameters = {"CoreName": core, "CertIdParam": certificate, "ModelS3Uri": "s3://models/a.zip"}
    moto.client("cloudformation").create_stack(
        StackName=device_stack(core),
        TemplateBody=template_text("device"),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )


def prepare(line: list[str], desk: Path, moto: MotoServer) -> None:
    """What the page's reader does between two commands."""
    if "--csr" in line:
        shutil.copy(desk / "device" / "certs" / "thing.csr", desk / "thing.csr")
    if "--finish" in line:
        new = certificate_id(desk / "certs" / line[2] / "next" / "thing.cert.pem")
        document = json.dumps({"state": "online", "certificate": new}).encode()
        moto.client("iot-data").publish(topic=f"mli/status/{line[2]}", qos=1, retain=True, payload=document)


def test_every_command_of_the_page_works_where_it_stands(desk: Path, moto: MotoServer) -> None:
    assert len(LINES) >= 9
    replaced = ""
    for line in LINES:
        words = [word.replace("/var/lib/mli", str(desk / "device")) for word in shlex.split(line)[1:]]
        words = [replaced if word == "CERTIFICATE_ID" else word for word in words]
        if words[:2] == ["stack", "deploy"]:
            make_stack(moto, words[2], certificate_id(desk / words[words.index("--certificate") + 1]))
            continue
        prepare(words, desk, moto)
        done = mli_here(*words, cwd=desk)
        assert done.returncode == 0, (line, done.stderr)
        assert done.stderr == "" or words[1] == "replace" or "--finish" in words, done.stderr
        if "--finish" in words:
            replaced = certificate_id(desk / "certs" / words[2] / "thing.cert.pem")
    statuses = [item["status"] for item in moto.client("iot").list_certificates()["certificates"]]
    assert sorted(statuses) == ["ACTIVE", "ACTIVE", "REVOKED", "REVOKED"]
