"""`mli device cert`: a key that never leaves, files that are whole, and nothing that is made twice or lost."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.fixtures.hostile_http import HostileServer, Talk
from tests.fixtures.mli_here import mli_here
from tests.fixtures.mli_process import MLI, environment, run_mli
from tests.fixtures.moto_server import ACCOUNT, REGION, MotoServer

pytestmark = pytest.mark.usefixtures("moto_environment")
FILES = {"thing.cert.pem", "thing.private.key", "root.ca.pem", "certificate.json"}


@pytest.fixture(autouse=True)
def empty_account(moto: MotoServer) -> None:
    moto.reset()


def cert(desk: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return mli_here("device", "cert", *arguments, cwd=desk)


def made(desk: Path, *arguments: object) -> dict[str, Any]:
    done = cert(desk, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    body: dict[str, Any] = json.loads(done.stdout)
    return body


def known(moto: MotoServer) -> dict[str, str]:
    """Status of each certificate of the account, by its id."""
    return {item["certificateId"]: item["status"] for item in moto.client("iot").list_certificates()["certificates"]}


def is_a_pair(folder: Path) -> bool:
    certificate = x509.load_pem_x509_certificate((folder / "thing.cert.pem").read_bytes())
    key = serialization.load_pem_private_key((folder / "thing.private.key").read_bytes(), None)
    return certificate.public_key() == key.public_key()


def test_the_key_is_made_here_and_the_certificate_is_active(tmp_path: Path, moto: MotoServer) -> None:
    before = os.umask(0)
    try:
        done = run_mli("device", "cert", "line-1", state=tmp_path / "state", cwd=tmp_path)
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "certs" / "line-1"
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(FILES, 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert is_a_pair(folder)
    certificate = x509.load_pem_x509_certificate((folder / "thing.cert.pem").read_bytes())
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    certificate_id = certificate.fingerprint(hashes.SHA256()).hex()
    assert known(moto) == {certificate_id: "ACTIVE"}
    assert f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{certificate_id}" in done.stdout
    assert f"mli stack deploy line-1 --certificate {certificate_id} --model s3://BUCKET/KEY\n" in done.stdout
    names = [
        item.subject.rfc4514_string()
        for item in x509.load_pem_x509_certificates((folder / "root.ca.pem").read_bytes())
    ]
    assert names[0] == "CN=Amazon Root CA 1,O=Amazon,C=US"
    assert "CN=Amazon Root CA 3,O=Amazon,C=US" in names


def test_a_second_run_makes_nothing(tmp_path: Path, moto: MotoServer) -> None:
    first, second = made(tmp_path, "line-1"), made(tmp_path, "line-1")
    assert (first["how"], second["how"]) == ("new", "there")
    assert first["certificate_id"] == second["certificate_id"]
    assert list(known(moto)) == [first["certificate_id"]]


def test_china_is_a_partition_of_its_own(tmp_path: Path) -> None:
    body = made(tmp_path, "line-1", "--region", "cn-north-1")
    assert body["arn"].startswith(f"arn:aws-cn:iot:cn-north-1:{ACCOUNT}:cert/")


def test_an_old_device_gets_an_rsa_key(tmp_path: Path) -> None:
    made(tmp_path, "line-1", "--rsa", "-o", "here")
    key = serialization.load_pem_private_key((tmp_path / "here" / "thing.private.key").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048
    assert is_a_pair(tmp_path / "here")


def test_the_key_stays_on_the_device_where_the_request_is_made_there(
    tmp_path: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, desk = tmp_path / "device", tmp_path / "desk"
    device.mkdir()
    desk.mkdir()
    with monkeypatch.context() as nowhere:
        nowhere.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        nowhere.delenv("AWS_ACCESS_KEY_ID")
        asked = cert(device, "line-1", "--csr-only", "-o", "certs")
    assert asked.returncode == 0, asked.stderr
    assert {path.name for path in (device / "certs").iterdir()} == {"thing.private.key", "thing.csr"}
    (device / "certs" / "thing.csr").rename(desk / "thing.csr")
    signed = made(desk, "line-1", "--csr", "thing.csr")
    assert signed["key"] is None
    assert {path.name for path in (desk / "certs" / "line-1").iterdir()} == FILES - {"thing.private.key"}
    (desk / "certs" / "line-1" / "thing.cert.pem").rename(device / "certs" / "thing.cert.pem")
    assert is_a_pair(device / "certs")
    assert known(moto) == {signed["certificate_id"]: "ACTIVE"}


@pytest.mark.parametrize("step", range(1, 6))
def test_a_run_that_is_killed_at_any_step_is_gone_on_with(tmp_path: Path, moto: MotoServer, step: int) -> None:
    """Each file appears by a rename; the process is killed at one of the five."""
    other = made(tmp_path, "line-2")["certificate_id"]  # as young, and for another key
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=rename", "-e"]
    killing = [*strace, f"inject=rename:signal=KILL:when={step}"]
    command = [*killing, *MLI, "device", "cert", "line-1"]
    killed = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path / "state"), capture_output=True)
    assert killed.returncode == -9, killed.stderr
    there = known(moto).keys() - {other}
    assert len(there) == (1 if step >= 4 else 0)
    again = made(tmp_path, "line-1")
    assert again["how"] == ("new" if step < 4 else "found" if step == 4 else "there")
    assert set(known(moto)) == {again["certificate_id"], other}
    assert there <= {again["certificate_id"]}
    folder = tmp_path / "certs" / "line-1"
    assert is_a_pair(folder)
    assert json.loads((folder / "certificate.json").read_text())["certificate_id"] == again["certificate_id"]
    assert {path.name for path in folder.iterdir()} == FILES


def forward(talk: Talk, port: int) -> tuple[int, bytes]:
    body = b""
    while len(body) < int(talk.headers.get("content-length", 0)):
        body += talk.connection.recv(65536)
    onward = HTTPConnection("127.0.0.1", port, timeout=60)
    onward.request(talk.method, talk.target, body, dict(talk.headers))
    response = onward.getresponse()
    return response.status, response.read()


def test_an_answer_that_was_lost_leaves_no_certificate_that_nobody_knows_of(
    tmp_path: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch, make_server: Callable[..., HostileServer]
) -> None:
    """AWS's library asks again by itself, and so AWS makes a second certificate for the key."""
    lost: list[str] = []

    def lossy(talk: Talk) -> None:
        status, body = forward(talk, moto.port)
        if talk.method == "POST" and talk.target.startswith("/certificates?") and not lost:
            lost.append(json.loads(body)["certificateId"])
            return
        talk.answer(status, body, content_type="application/json")

    monkeypatch.setenv("AWS_ENDPOINT_URL_IOT", make_server(lossy).url)
    body = made(tmp_path, "line-1")
    assert len(known(moto)) == 2
    (note,) = body["notes"]
    assert f"mli device cert line-1 --revoke {lost[0]}" in note
    assert body["certificate_id"] != lost[0]


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (
            "AccessDeniedException",
            f"User: arn:aws:iam::{ACCOUNT}:user/op is not authorized to perform: iot:CreateCertificateFromCsr",
            "A right is missing: iot:CreateCertificateFromCsr",
        ),
        ("ExpiredTokenException", "The security token included in the request is expired", "session has expired"),
        ("InvalidRequestException", "The CSR is invalid", "The CSR is invalid"),
    ],
)
def test_a_refusal_of_aws_is_told_and_the_next_run_goes_on_with_the_same_key(
    tmp_path: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch, code: str, said: str, told: str
) -> None:
    call = BaseClient._make_api_call

    def refuse(client: BaseClient, operation: str, arguments: dict[str, Any]) -> Any:
        if operation == "CreateCertificateFromCsr":
            raise ClientError({"Error": {"Code": code, "Message": said}}, operation)
        return call(client, operation, arguments)

    with monkeypatch.context() as refusing:
        refusing.setattr(BaseClient, "_make_api_call", refuse)
        done = cert(tmp_path, "line-1")
    assert (done.returncode, told in done.stderr) == (1, True), done.stderr
    key = (tmp_path / "certs" / "line-1" / "thing.private.key").read_bytes()
    assert made(tmp_path, "line-1")["how"] == "new"
    assert (tmp_path / "certs" / "line-1" / "thing.private.key").read_bytes() == key
    assert is_a_pair(tmp_path / "certs" / "line-1")
    assert len(known(moto)) == 1


def test_a_folder_serves_one_core_in_one_account_and_region(tmp_path: Path) -> None:
    made(tmp_path, "line-1", "-o", "here")
    other = cert(tmp_path, "line-2", "-o", "here")
    assert other.returncode == 2
    assert "of another core: line-1" in other.stderr
    elsewhere = cert(tmp_path, "line-1", "-o", "here", "--region", "eu-west-1")
    assert elsewhere.returncode == 1
    assert f"account {ACCOUNT}, {REGION}" in elsewhere.stderr


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED", None])
def test_a_certificate_that_does_not_work_any_more_is_told(
    tmp_path: Path, moto: MotoServer, status: str | None
) -> None:
    certificate_id = made(tmp_path, "line-1")["certificate_id"]
    iot = moto.client("iot")
    iot.update_certificate(certificateId=certificate_id, newStatus=status or "INACTIVE")
    if status is None:
        iot.delete_certificate(certificateId=certificate_id)
    done = cert(tmp_path, "line-1")
    assert done.returncode == 1
    assert (status or "does not know") in done.stderr
    assert certificate_id in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("absent.csr", None, "cannot be read"),
        ("text.csr", b"hello", "no request for a certificate"),
        ("key.csr", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "must never leave its device"),
    ],
)
def test_what_is_no_request_is_told_and_nothing_is_made(
    tmp_path: Path, moto: MotoServer, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = cert(tmp_path, "line-1", "--csr", name)
    assert done.returncode == 2
    assert told in done.stderr
    assert known(moto) == {}


def test_an_authority_of_ones_own_takes_the_place_of_amazons(tmp_path: Path, certificates: Any) -> None:
    made(tmp_path, "line-1", "--ca", certificates.ca)
    assert (tmp_path / "certs" / "line-1" / "root.ca.pem").read_bytes() == certificates.ca.read_bytes()
    wrong = cert(tmp_path, "line-2", "--ca", certificates.client)
    assert wrong.returncode == 2
    assert "authority" in wrong.stderr


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    from mli.core.certificate_folder import CertificateFolder

    with CertificateFolder(tmp_path / "here").locked():
        done = cert(tmp_path, "line-1", "-o", "here")
    assert done.returncode == 1
    assert "Another mli" in done.stderr
