"""The certificate that is meant: an id, an ARN or a file; of this region, and active."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.brokers import Certificates
from tests.fixtures.stubbed_aws import REGION, StubbedAws

from mli.cloud.stack_certificate import certificate_id, certificate_of_thing, find_certificate
from mli.errors import RefusedError, StopError, UsageError

ID = "ab" * 32
ARN = f"arn:aws:iot:{REGION}:123456789012:cert/{ID}"


def test_an_id_an_arn_and_a_file_name_the_same(stubbed_aws: StubbedAws, certificates: Certificates) -> None:
    file = certificates.ca
    real = hashlib.sha256(ssl.PEM_cert_to_DER_cert(file.read_text())).hexdigest()
    aws = stubbed_aws.account
    assert certificate_id(str(file), aws) == real
    assert certificate_id(real.upper(), aws) == real
    assert certificate_id(f"arn:aws:iot:{REGION}:123456789012:cert/{real}", aws) == real


def test_a_file_with_a_chain_names_its_first(
    stubbed_aws: StubbedAws, certificates: Certificates, tmp_path: Path
) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_text("# the device\n" + certificates.client.read_text() + certificates.ca.read_text())
    assert certificate_id(str(chain), stubbed_aws.account) == certificate_id(
        str(certificates.client), stubbed_aws.account
    )


@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        (f"arn:aws:iot:us-east-1:123456789012:cert/{ID}", "another region", "--region us-east-1"),
        (f"arn:aws:iot:{REGION}:210987654321:cert/{ID}", "another account", "account 210987654321"),
        (f"arn:aws-cn:iot:cn-north-1:123456789012:cert/{ID}", "another", "--profile"),
        (f"arn:aws:iot:{REGION}:123456789012:thing/a", "no ARN of an AWS IoT certificate", ""),
        (f"arn:aws:iot:{REGION}:123456789012:cert/short", "no ARN of an AWS IoT certificate", ""),
        ("ab" * 31, "neither an id, nor an ARN, nor a file", ""),
        ("no/such/file.pem", "neither an id, nor an ARN, nor a file", ""),
    ],
)
def test_what_names_no_certificate_of_here_is_refused(
    stubbed_aws: StubbedAws, text: str, says: str, remedy: str
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        certificate_id(text, stubbed_aws.account)
    assert remedy in str(caught.value.remedy or "")


def test_a_private_key_in_place_of_the_certificate_is_said(stubbed_aws: StubbedAws, tmp_path: Path) -> None:
    file = tmp_path / "thing.private.key"
    file.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(UsageError) as caught:
        certificate_id(str(file), stubbed_aws.account)
    assert caught.value.got == "a private key"


def described(aws: StubbedAws, status: str, **more: Any) -> None:
    told = {"certificateArn": ARN, "certificateId": ID, "status": status, **more}
    aws.on("iot").add_response("describe_certificate", {"certificateDescription": told}, {"certificateId": ID})


def test_an_active_one_comes_with_its_things_and_policies(stubbed_aws: StubbedAws) -> None:
    described(stubbed_aws, "ACTIVE", validity={"notAfter": datetime(2049, 12, 31, tzinfo=UTC)})
    stub = stubbed_aws.on("iot")
    stub.add_response("list_principal_things", {"things": ["a"], "nextToken": "2"}, {"principal": ARN})
    stub.add_response("list_principal_things", {"things": ["b"]}, {"principal": ARN, "nextToken": "2"})
    stub.add_response("list_attached_policies", {"policies": [{"policyName": "old"}]}, {"target": ARN})
    found = find_certificate(stubbed_aws.account, ID)
    assert (found.arn, found.things, found.policies) == (ARN, ("a", "b"), ("old",))


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("INACTIVE", f"aws iot update-certificate --certificate-id {ID} --new-status ACTIVE"),
        ("REVOKED", "mli device cert"),
        ("PENDING_TRANSFER", "accept it there"),
    ],
)
def test_one_that_is_not_active_is_refused(stubbed_aws: StubbedAws, status: str, remedy: str) -> None:
    described(stubbed_aws, status)
    with pytest.raises(RefusedError, match="not active") as caught:
        find_certificate(stubbed_aws.account, ID)
    assert caught.value.got == status
    assert remedy in str(caught.value.remedy)


def test_an_outdated_one_is_refused(stubbed_aws: StubbedAws) -> None:
    described(stubbed_aws, "ACTIVE", validity={"notAfter": datetime(2020, 1, 2, tzinfo=UTC)})
    with pytest.raises(RefusedError, match="outdated") as caught:
        find_certificate(stubbed_aws.account, ID)
    assert "2020-01-02" in str(caught.value.got)


def absent(aws: StubbedAws, region: str) -> None:
    aws.on("iot", region).add_client_error("describe_certificate", "ResourceNotFoundException")


def test_one_of_another_region_is_found_there(stubbed_aws: StubbedAws) -> None:
    absent(stubbed_aws, REGION)
    told = {"certificateArn": ARN, "certificateId": ID, "status": "ACTIVE"}
    stubbed_aws.on("iot", "us-east-1").add_response("describe_certificate", {"certificateDescription": told})
    with pytest.raises(RefusedError, match="of another region") as caught:
        find_certificate(stubbed_aws.account, ID)
    assert caught.value.got == "it is in us-east-1"
    assert "--region us-east-1" in str(caught.value.remedy)


def test_one_that_is_nowhere_says_where_it_was_looked_for(stubbed_aws: StubbedAws) -> None:
    absent(stubbed_aws, REGION)
    with pytest.raises(RefusedError, match=f"no certificate {ID[:12]}… in {REGION}") as caught:
        find_certificate(stubbed_aws.account, ID)
    assert "account 123456789012" in str(caught.value.where)


def test_the_right_that_is_missing_is_named(stubbed_aws: StubbedAws) -> None:
    said = "User: arn:aws:iam::1:user/op is not authorized to perform: iot:DescribeCertificate on resource: arn:x"
    stubbed_aws.on("iot").add_client_error("describe_certificate", "AccessDeniedException", said)
    with pytest.raises(StopError, match="iot:DescribeCertificate"):
        find_certificate(stubbed_aws.account, ID)


@pytest.mark.parametrize("principals", [[], [f"{ARN}1", f"{ARN}2"], ["arn:aws:iam::1:user/x"]])
def test_a_thing_says_its_certificate_only_where_it_has_one(stubbed_aws: StubbedAws, principals: list[str]) -> None:
    stubbed_aws.on("iot").add_response("list_thing_principals", {"principals": principals}, {"thingName": "a"})
    with pytest.raises(RefusedError, match="which one is meant"):
        certificate_of_thing(stubbed_aws.account, "a")


def test_the_only_certificate_of_a_thing_is_taken(stubbed_aws: StubbedAws) -> None:
    stubbed_aws.on("iot").add_response("list_thing_principals", {"principals": [ARN]})
    assert certificate_of_thing(stubbed_aws.account, "a") == ID
