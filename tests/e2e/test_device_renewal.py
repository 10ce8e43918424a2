"""Rotate, finish, revoke, replace: whatever interrupts them, the device keeps one certificate that works."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from tests.fixtures.mli_here import mli_here
from tests.fixtures.mli_process import MLI, environment
from tests.fixtures.moto_server import ACCOUNT, REGION, MotoServer

from mli.cloud.names import SHARED_STACK, device_stack
from mli.cloud.template_text import template_text
from mli.config.device import load_device

pytestmark = pytest.mark.usefixtures("moto_environment")
CORE = "line-1"
CALL = BaseClient._make_api_call


@pytest.fixture
def desk(tmp_path: Path, moto: MotoServer) -> Path:
    """A workstation, and an account with what all devices share."""
    moto.reset()
    moto.client("cloudformation").create_stack(
        StackName=SHARED_STACK, TemplateBody=template_text("shared"), Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    return tmp_path


def mli(desk: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return mli_here("device", *arguments, cwd=desk)


def told(desk: Path, *arguments: object) -> dict[str, Any]:
    done = mli(desk, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    body: dict[str, Any] = json.loads(done.stdout)
    return body


def deployed(desk: Path, moto: MotoServer, core: str = CORE, stack: str | None = None) -> str:
    """A device with a certificate and a stack; the certificate's id."""
    certificate_id = str(told(desk, "cert", core)["certificate_id"])
    parameters = {"CoreName": core, "CertIdParam": certificate_id, "ModelS3Uri": "s3://models/a.zip"}
    moto.client("cloudformation").create_stack(
        StackName=stack or device_stack(core),
        TemplateBody=template_text("device"),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )
    return certificate_id


def arn(certificate_id: str) -> str:
    return f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{certificate_id}"


def certificates(moto: MotoServer) -> dict[str, tuple[str, bool, bool]]:
    """For each certificate its status, whether the thing has it, and whether it has a policy."""
    iot = moto.client("iot")
    of_thing = iot.list_thing_principals(thingName=CORE)["principals"]
    return {
        item["certificateId"]: (
            item["status"],
            item["certificateArn"] in of_thing,
            bool(iot.list_attached_policies(target=item["certificateArn"])["policies"]),
        )
        for item in iot.list_certificates()["certificates"]
    }


WORKS, GONE = ("ACTIVE", True, True), ("REVOKED", False, False)


def named_by_stack(moto: MotoServer) -> str:
    (stack,) = moto.client("cloudformation").describe_stacks(StackName=device_stack(CORE))["Stacks"]
    values = {item["ParameterKey"]: item["ParameterValue"] for item in stack["Parameters"]}
    assert values["ModelS3Uri"] == "s3://models/a.zip"
    return str(values["CertIdParam"])


def device_says(moto: MotoServer, **changes: Any) -> None:
    document = {"schema": "mli.status/1", "thing": CORE, "state": "online", **changes}
    moto.client("iot-data").publish(
        topic=f"mli/status/{CORE}", qos=1, retain=True, payload=json.dumps(document).encode()
    )


def id_of(folder: Path) -> str:
    certificate = x509.load_pem_x509_certificate((folder / "thing.cert.pem").read_bytes())
    key = serialization.load_pem_private_key((folder / "thing.private.key").read_bytes(), None)
    assert certificate.public_key() == key.public_key()
    return certificate.fingerprint(hashes.SHA256()).hex()


def test_a_certificate_is_renewed_while_the_old_one_works(desk: Path, moto: MotoServer) -> None:
    old = deployed(desk, moto)
    assert certificates(moto) == {old: WORKS}
    rotated = told(desk, "cert", CORE, "--rotate")
    new = rotated["certificate_id"]
    assert rotated["replaces"] == [old]
    assert certificates(moto) == {old: WORKS, new: WORKS}
    assert told(desk, "cert", CORE, "--rotate")["certificate_id"] == new
    folder = desk / "certs" / CORE
    assert (id_of(folder), id_of(folder / "next")) == (old, new)
    bundled = mli(desk, "bundle", "--stack", CORE, "--certs", "certs/line-1/next")
    assert (bundled.returncode, bundled.stderr) == (0, "")

    for said in ({}, {"certificate": old}, {"certificate": new, "state": "offline"}):
        if said:
            device_says(moto, **said)
        early = mli(desk, "cert", CORE, "--finish")
        assert early.returncode == 1
        assert "has not been seen with its new certificate" in early.stderr
        assert certificates(moto) == {old: WORKS, new: WORKS}
    device_says(moto, certificate=new)
    finished = told(desk, "cert", CORE, "--finish")
    assert certificates(moto) == {old: GONE, new: WORKS}
    assert named_by_stack(moto) == new
    assert any("revoked" in line for line in finished["did"])
    assert id_of(folder) == new
    assert not (folder / "next").exists()
    again = mli(desk, "cert", CORE, "--finish")
    assert again.returncode == 1
    assert f"mli device cert {CORE} --rotate" in again.stderr


def test_who_has_seen_the_device_can_say_so(desk: Path, moto: MotoServer) -> None:
    old = deployed(desk, moto)
    new = told(desk, "cert", CORE, "--rotate")["certificate_id"]
    assert mli(desk, "cert", CORE, "--finish", "--proven").returncode == 0
    assert certificates(moto) == {old: GONE, new: WORKS}


@pytest.mark.parametrize(("stack", "named"), [(None, CORE), ("mli-mine", "mli-mine")])
def test_the_bundle_that_is_said_next_can_be_made(
    desk: Path, moto: MotoServer, stack: str | None, named: str
) -> None:
    deployed(desk, moto, stack=stack)
    done = mli(desk, "cert", named, "--rotate")
    line = next(line for line in done.stdout.splitlines() if line.startswith("  mli device bundle "))
    bundle = mli(desk, *line.split()[2:])
    assert bundle.returncode == 0, bundle.stderr
    assert mli(desk, "cert", named, "--finish", "--proven").returncode == 0


def test_a_renewal_can_leave_the_key_on_the_device_too(desk: Path, moto: MotoServer) -> None:
    old = deployed(desk, moto)
    assert mli(desk, "cert", CORE, "--csr-only", "-o", "on-device").returncode == 0
    body = told(desk, "cert", CORE, "--rotate", "--csr", "on-device/thing.csr")
    assert body["key"] is None
    done = mli(desk, "bundle", "--stack", CORE, "--certs", "certs/line-1/next", "--no-key")
    assert done.returncode == 0, done.stderr
    assert mli(desk, "cert", CORE, "--finish", "--proven").returncode == 0
    assert certificates(moto) == {old: GONE, body["certificate_id"]: WORKS}
    assert not (desk / "certs" / CORE / "thing.private.key").exists()


def test_a_new_card_gets_a_new_key_for_the_same_thing(desk: Path, moto: MotoServer) -> None:
    old = deployed(desk, moto)
    body = told(desk, "replace", CORE)
    new = body["certificate_id"]
    assert certificates(moto) == {old: GONE, new: WORKS}
    assert named_by_stack(moto) == new
    folder = desk / "certs" / CORE
    assert id_of(folder) == new
    with zipfile.ZipFile(folder / "greengrass-setup.zip") as archive:
        archive.extractall(desk / "device")
    assert id_of(desk / "device" / "certs") == new
    device = load_device(desk / "device")
    assert (device.thing, device.store.role_alias) == (CORE, "mli-device")
    second = told(desk, "replace", CORE)
    assert certificates(moto) == {old: GONE, new: GONE, second["certificate_id"]: WORKS}


def test_the_accelerators_thing_is_renewed_by_either_name(desk: Path, moto: MotoServer) -> None:
    old = told(desk, "cert", CORE)["certificate_id"]
    iot = moto.client("iot")
    iot.create_thing(thingName="line-1_Core")
    iot.attach_thing_principal(thingName="line-1_Core", principal=arn(old))
    parameters = {"CoreName": CORE, "CertIdParam": old, "ModelS3Uri": "s3://models/a.zip", "Adopt": "true"}
    moto.client("cloudformation").create_stack(
        StackName=device_stack(CORE),
        TemplateBody=template_text("device"),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )
    wanted = [item["policyName"] for item in iot.list_attached_policies(target=arn(old))["policies"]]
    assert len(wanted) == 2
    beside = told(desk, "cert", CORE, "--rotate")["certificate_id"]
    has = [item["policyName"] for item in iot.list_attached_policies(target=arn(beside))["policies"]]
    assert sorted(has) == sorted(wanted)
    for name in ("line-1_Core", CORE):
        new = told(desk, "replace", name)["certificate_id"]
        assert iot.list_thing_principals(thingName="line-1_Core")["principals"] == [arn(new)]
        has = [item["policyName"] for item in iot.list_attached_policies(target=arn(new))["policies"]]
        assert sorted(has) == sorted(wanted)


def test_a_thing_without_a_stack_keeps_its_policies(desk: Path, moto: MotoServer) -> None:
    old = told(desk, "cert", CORE)["certificate_id"]
    iot = moto.client("iot")
    iot.create_thing(thingName=CORE)
    alone = mli(desk, "replace", CORE)
    assert alone.returncode == 1
    assert "which policies" in alone.stderr
    iot.create_policy(policyName="mine", policyDocument='{"Version": "2012-10-17", "Statement": []}')
    iot.attach_policy(policyName="mine", target=arn(old))
    iot.attach_thing_principal(thingName=CORE, principal=arn(old))
    new = told(desk, "replace", CORE)["certificate_id"]
    assert certificates(moto) == {old: GONE, new: WORKS}


def test_no_thing_is_told(desk: Path) -> None:
    done = mli(desk, "replace", "line-9")
    assert done.returncode == 1
    assert "There is no thing line-9" in done.stderr


def test_the_last_certificate_and_the_stacks_own_are_only_revoked_by_force(desk: Path, moto: MotoServer) -> None:
    old = deployed(desk, moto)
    last = mli(desk, "cert", CORE, "--revoke", old)
    assert (last.returncode, "last active certificate" in last.stderr) == (1, True)
    new = told(desk, "cert", CORE, "--rotate")["certificate_id"]
    named = mli(desk, "cert", CORE, "--revoke", old)
    assert (named.returncode, "stack of line-1 names" in named.stderr) == (1, True)
    assert certificates(moto) == {old: WORKS, new: WORKS}
    did = told(desk, "cert", CORE, "--revoke", arn(new))["did"]
    assert "was deactivated" in did[0]
    assert certificates(moto) == {old: WORKS, new: GONE}
    again = mli(desk, "cert", CORE, "--revoke", new)
    assert again.returncode == 0
    assert "revoked before" in again.stdout
    assert mli(desk, "cert", CORE, "--revoke", old, "--force").returncode == 0
    assert certificates(moto) == {old: GONE, new: GONE}


def test_a_certificate_that_no_thing_has_is_revoked_without_one(desk: Path, moto: MotoServer) -> None:
    """Before there is a stack, and after it was destroyed, which leaves the certificate as it is."""
    never_used = told(desk, "cert", CORE)["certificate_id"]
    assert mli(desk, "cert", CORE, "--revoke", never_used).returncode == 0
    used = told(desk, "cert", CORE, "-o", "other")["certificate_id"]
    iot = moto.client("iot")
    iot.create_policy(policyName="mine", policyDocument='{"Version": "2012-10-17", "Statement": []}')
    iot.attach_policy(policyName="mine", target=arn(used))
    assert mli(desk, "cert", CORE, "--revoke", used).returncode == 0
    statuses = {item["certificateId"]: item["status"] for item in iot.list_certificates()["certificates"]}
    assert statuses == {never_used: "REVOKED", used: "REVOKED"}
    assert iot.list_attached_policies(target=arn(used))["policies"] == []


def test_a_certificate_that_another_thing_has_too_stays_active(desk: Path, moto: MotoServer) -> None:
    """As the accelerator's users shared one among all devices."""
    old = deployed(desk, moto)
    iot = moto.client("iot")
    iot.create_thing(thingName="other")
    iot.attach_thing_principal(thingName="other", principal=arn(old))
    refused = mli(desk, "cert", CORE, "--revoke", old)
    assert (refused.returncode, "belongs to other" in refused.stderr) == (1, True)
    body = told(desk, "replace", CORE)
    assert any("stays active, for it is also of other" in line for line in body["did"])
    assert iot.describe_certificate(certificateId=old)["certificateDescription"]["status"] == "ACTIVE"
    assert iot.list_principal_things(principal=arn(old))["things"] == ["other"]


@pytest.mark.parametrize(
    ("arguments", "told_"),
    [
        (["--revoke", "0" * 64], "There is no certificate"),
        (["--revoke", "nonsense"], "no certificate"),
        (["--rotate", "--finish"], "different things"),
        (["--csr-only", "--csr", "x"], "different things"),
    ],
)
def test_wrong_usage_is_told(desk: Path, moto: MotoServer, arguments: list[str], told_: str) -> None:
    deployed(desk, moto)
    done = mli(desk, "cert", CORE, *arguments)
    assert done.returncode in (1, 2)
    assert told_ in done.stderr


class Killed(BaseException):
    """The process ends here; nothing of ours catches it."""


def kill_after_news(monkeypatch: pytest.MonkeyPatch, seen: set[str]) -> None:
    """End the process right after a kind of change that was not in ``seen``: AWS made it, and nobody here knows."""

    def call(client: BaseClient, operation: str, arguments: dict[str, Any]) -> Any:
        told = CALL(client, operation, arguments)
        kind = f"{operation} {arguments.get('newStatus', '')}".strip()
        if not operation.startswith(("Describe", "List", "Get")) and kind not in seen:
            seen.add(kind)
            raise Killed
        return told

    monkeypatch.setattr(BaseClient, "_make_api_call", call)


def has_files_that_work(desk: Path, moto: MotoServer) -> bool:
    folder = desk / "certs" / CORE
    there = [path for path in (folder, folder / "next") if (path / "thing.cert.pem").exists()]
    return any(certificates(moto)[id_of(path)] == WORKS for path in there)


def test_a_replacement_that_is_killed_after_any_call_leaves_a_device_that_works(
    desk: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = deployed(desk, moto)
    seen: set[str] = set()
    with monkeypatch.context() as killing:
        kill_after_news(killing, seen)
        while True:
            try:
                done = mli(desk, "replace", CORE)
                break
            except Killed:
                assert has_files_that_work(desk, moto)
    assert done.returncode == 0, done.stderr
    assert seen >= {
        *("CreateCertificateFromCsr", "AttachPolicy", "AttachThingPrincipal", "CreateChangeSet", "ExecuteChangeSet"),
        *("UpdateCertificate INACTIVE", "UpdateCertificate REVOKED"),
    }
    new = id_of(desk / "certs" / CORE)
    assert certificates(moto) == {old: GONE, new: WORKS}
    assert named_by_stack(moto) == new


def test_files_change_places_through_kills(desk: Path, moto: MotoServer) -> None:
    old = deployed(desk, moto)
    new = told(desk, "cert", CORE, "--rotate")["certificate_id"]
    device_says(moto, certificate=new)
    for step in (2, 2):  # the authorities have moved; the certificate too, and its key not yet
        strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=rename", "-e"]
        killing = [*strace, f"inject=rename:signal=KILL:when={step}"]
        command = [*killing, *MLI, "device", "cert", CORE, "--finish"]
        killed = subprocess.run(command, cwd=desk, env=environment(desk / "state"), capture_output=True)
        assert killed.returncode == -9, killed.stderr
    assert mli(desk, "cert", CORE, "--finish").returncode == 0
    assert id_of(desk / "certs" / CORE) == new
    assert certificates(moto) == {old: GONE, new: WORKS}
    assert not (desk / "certs" / CORE / "next").exists()
