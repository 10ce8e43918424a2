"""The certificate that a device's stack is made for: found, active, of this region, and whose it is."""

from __future__ import annotations

import hashlib
import re
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from mli.cloud.aws import Aws
from mli.cloud.names import adopted_thing
from mli.cloud.troubles import asking, code_of
from mli.errors import RefusedError, UsageError

_ID = re.compile(r"[0-9a-fA-F]{64}")
_ARN = re.compile(r"arn:(?P<partition>[a-z0-9-]+):iot:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):cert/(?P<id>\S+)")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s", re.DOTALL)
_AT_ONCE, _SHORT_S = 12, 4
_NEW = "mli device cert CORE_NAME makes a new one"
_FORMS = "64 hexadecimal digits, arn:aws:iot:REGION:ACCOUNT:cert/ID, or the certificate's file (PEM)"


@dataclass(frozen=True, slots=True)
class Certificate:
    """An active certificate of this account and region.

    Attributes:
        things: names of the things that it belongs to.
        policies: names of the policies that it has.
    """

    certificate_id: str
    arn: str
    things: tuple[str, ...]
    policies: tuple[str, ...]


def certificate_id(text: str, aws: Aws) -> str:
    """The id that was meant by an id, an ARN or a file.

    AWS IoT's id of a certificate is the sha256 of its DER form, so a file tells its own.

    Raises:
        UsageError: it is none of them, or of another account, region or partition.
    """
    if _ID.fullmatch(text):
        return text.lower()
    arn = _ARN.fullmatch(text)
    if arn is not None:
        return _id_of_arn(arn, text, aws)
    if text.startswith("arn:"):
        raise UsageError("this is no ARN of an AWS IoT certificate", expected=_FORMS, got=text)
    path = Path(text)
    if not path.is_file():
        raise UsageError(
            "this is no certificate: neither an id, nor an ARN, nor a file that is here", expected=_FORMS, got=text
        )
    return _id_of_file(path)


def find_certificate(aws: Aws, wanted: str) -> Certificate:
    """The active certificate of this id.

    Raises:
        RefusedError: there is none in this region, or it is not active or outdated.
        MliError: AWS did not answer, or a right is missing.
    """
    client = aws.client("iot")
    with asking(f"for the certificate {wanted[:12]}…"):
        try:
            told = client.describe_certificate(certificateId=wanted)["certificateDescription"]
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            raise _absent(aws, wanted) from error
    _must_be_active(wanted, told["status"])
    ends = told.get("validity", {}).get("notAfter")
    if ends is not None and ends < datetime.now(UTC):
        raise RefusedError(
            f"The certificate {wanted[:12]}… is outdated: a device cannot connect with it.",
            got=f"it was valid until {ends:%Y-%m-%d}",
            remedy=_NEW,
        )
    arn = told["certificateArn"]
    with asking(f"what the certificate {wanted[:12]}… belongs to"):
        things = [
            name
            for page in client.get_paginator("list_principal_things").paginate(principal=arn)
            for name in page["things"]
        ]
    return Certificate(wanted, arn, tuple(things), attached_policies(aws, arn))


def must_be_own(certificate: Certificate, core_name: str, thing: str) -> None:
    """Refuse to attach a certificate of other things to one more: each of them could be the others.

    A thing that has it already keeps it, as one of the accelerator's whose tutorial had one certificate for all.

    Raises:
        RefusedError: it is another's, and not yet this thing's.
    """
    if not certificate.things or thing in certificate.things:
        return
    adopted = adopted_thing(core_name)
    adopt = f"mli stack deploy {core_name} --adopt takes over {adopted}; " if adopted in certificate.things else ""
    raise RefusedError(
        f"The certificate {certificate.certificate_id[:12]}… is another device's: who has its key can be either.",
        expected=f"a certificate of {thing} alone",
        got=f"it belongs to {', '.join(certificate.things)}",
        remedy=f"{adopt}{_NEW.replace('CORE_NAME', core_name)}, then --certificate with that",
    )


def certificate_of_thing(aws: Aws, thing: str) -> str:
    """Id of the only certificate of a thing.

    Raises:
        RefusedError: it has none, or several.
        MliError: AWS did not answer, or a right is missing.
    """
    with asking(f"for the certificates of the thing {thing}"):
        pages = aws.client("iot").get_paginator("list_thing_principals").paginate(thingName=thing)
        principals = [name for page in pages for name in page["principals"]]
    found: list[str] = [name.rpartition("/")[2] for name in principals if ":cert/" in name]
    if len(found) == 1:
        return found[0]
    raise RefusedError(
        f"The thing {thing} has {'several certificates' if found else 'no certificate'}; which one is meant?",
        got=", ".join(found) or None,
        remedy="name it: --certificate ID",
    )


def attached_policies(aws: Aws, arn: str) -> tuple[str, ...]:
    """Names of the policies that a certificate has.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    with asking("for the policies of the certificate"):
        pages = aws.client("iot").get_paginator("list_attached_policies").paginate(target=arn)
        return tuple(item["policyName"] for page in pages for item in page["policies"])


def _id_of_arn(arn: re.Match[str], text: str, aws: Aws) -> str:
    here = (aws.partition, aws.region, aws.account)
    if (arn["partition"], arn["region"], arn["account"]) == here:
        if _ID.fullmatch(arn["id"]):
            return str(arn["id"]).lower()
        raise UsageError("this is no ARN of an AWS IoT certificate", expected=_FORMS, got=text)
    if arn["account"] == aws.account and arn["partition"] == aws.partition:
        remedy = f"--region {arn['region']}, or a certificate of {aws.region}: {_NEW}"
    else:
        remedy = f"credentials of account {arn['account']} (--profile), or a certificate of this one: {_NEW}"
    raise UsageError(
        "the certificate is of another region"
        if arn["account"] == aws.account
        else "the certificate is of another account",
        expected=f"one of account {aws.account}, region {aws.region}",
        got=f"account {arn['account']}, region {arn['region']}",
        remedy=remedy,
    )


def _id_of_file(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise UsageError("the certificate's file cannot be read", where=str(path), got=str(error)) from error
    found = _PEM.search(text + "\n")
    if found is None:
        what = "a private key" if "PRIVATE KEY-----" in text else "no PEM certificate"
        raise UsageError("this file holds no certificate", where=str(path), expected=_FORMS, got=what)
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found[0].strip())).hexdigest()
    except ValueError as error:
        raise UsageError("this file holds no certificate", where=str(path), got=str(error)) from error


def _must_be_active(wanted: str, status: str) -> None:
    if status == "ACTIVE":
        return
    if status == "REVOKED":
        remedy = f"it was revoked, perhaps for a reason: {_NEW}"
    elif status == "PENDING_TRANSFER":
        remedy = "it is on its way to another account: accept it there, or cancel the transfer"
    else:
        remedy = f"aws iot update-certificate --certificate-id {wanted} --new-status ACTIVE; then again"
    raise RefusedError(
        f"The certificate {wanted[:12]}… is not active: a device cannot connect with it.",
        expected="ACTIVE",
        got=status,
        remedy=remedy,
    )


def _absent(aws: Aws, wanted: str) -> RefusedError:
    found = _regions_with(aws, wanted)
    if found:
        return RefusedError(
            f"The certificate {wanted[:12]}… is of another region.",
            expected=f"a certificate of {aws.region}",
            got=f"it is in {', '.join(found)}",
            remedy=f"--region {found[0]}, or a certificate of {aws.region}: {_NEW}",
        )
    return RefusedError(
        f"There is no certificate {wanted[:12]}… in {aws.region}.",
        where=f"account {aws.account}, region {aws.region}; other regions that could be asked have none either",
        got=wanted,
        remedy=f"aws iot list-certificates --region {aws.region} shows those that are there; one made elsewhere "
        f"is registered with aws iot register-certificate-without-ca; {_NEW}",
    )


def _regions_with(aws: Aws, wanted: str) -> list[str]:
    """Other regions of the partition that know the certificate; one that does not answer does not count."""
    names = [name for name in aws.session.get_available_regions("iot", aws.partition) if name != aws.region]
    hasty = Config(connect_timeout=_SHORT_S, read_timeout=_SHORT_S, retries={"total_max_attempts": 1})
    clients = [aws.session.client("iot", region_name=name, config=hasty) for name in names]

    def knows(client: object) -> bool:
        try:
            client.describe_certificate(certificateId=wanted)  # type: ignore[attr-defined]
        except (BotoCoreError, ClientError):
            return False
        return True

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [name for name, known in zip(names, pool.map(knows, clients), strict=True) if known]
