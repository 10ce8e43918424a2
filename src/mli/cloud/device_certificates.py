"""Certificates of AWS IoT: asked for by a signing request, found again, switched off for good."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mli.cloud.aws import Aws
from mli.cloud.troubles import asking, code_of
from mli.errors import RefusedError

ACTIVE, INACTIVE, REVOKED = "ACTIVE", "INACTIVE", "REVOKED"
_CLOCK_ERROR = timedelta(hours=1)
_PAGE = 250


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate that AWS IoT knows.

    Attributes:
        certificate_id: sha256 of its DER form, hexadecimal.
        public_key: sha256 of its key (DER, SubjectPublicKeyInfo), hexadecimal.
        status: AWS's own word: ACTIVE, INACTIVE, REVOKED …
    """

    certificate_id: str
    arn: str
    status: str
    public_key: str
    pem: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Signed:
    """What came of a request.

    Attributes:
        twins: certificates that an answer which was lost on its way left behind.
    """

    certificate: IssuedCertificate
    twins: tuple[IssuedCertificate, ...] = ()


def sign_request(aws: Aws, request_pem: str) -> Signed:
    """Have a request signed; the certificate is active from now on.

    Raises:
        RefusedError: AWS does not take the request, or answers with a certificate for another key.
        MliError: AWS did not answer, or a right is missing; then a certificate may have been made all the same.
    """
    began = datetime.now(UTC)
    with asking("to sign the request for a certificate"):
        told = aws.client("iot").create_certificate_from_csr(certificateSigningRequest=request_pem, setAsActive=True)
    wanted = _digest(x509.load_pem_x509_csr(request_pem.encode()).public_key())
    issued = _issued(told["certificateId"], told["certificateArn"], ACTIVE, told["certificatePem"])
    if issued.public_key != wanted:
        raise RefusedError(
            "The certificate that came is for another key, so nobody could use it.",
            where=issued.arn,
            remedy=f"revoke it: mli device cert CORE_NAME --revoke {issued.certificate_id}",
        )
    if not told["ResponseMetadata"].get("RetryAttempts"):
        return Signed(issued)
    made = certificates_of_key(aws, wanted, began)
    return Signed(issued, tuple(item for item in made if item.certificate_id != issued.certificate_id))


def look_at_certificate(aws: Aws, certificate_id: str) -> IssuedCertificate | None:
    """A certificate of this account and region; None where there is no such.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    with asking(f"for the certificate {certificate_id}"):
        try:
            told = aws.client("iot").describe_certificate(certificateId=certificate_id)["certificateDescription"]
        except ClientError as error:
            if code_of(error) == "ResourceNotFoundException":
                return None
            raise
    return _issued(told["certificateId"], told["certificateArn"], told["status"], told["certificatePem"])


def certificates_of_key(aws: Aws, public_key: str, since: datetime) -> tuple[IssuedCertificate, ...]:
    """Certificates for a key that were made since then, active ones first: an answer may have been lost on its way.

    Args:
        public_key: sha256 of the key, hexadecimal.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    found = []
    with asking("for certificates that were made since then"):
        pages = (
            aws.client("iot")
            .get_paginator("list_certificates")
            .paginate(ascendingOrder=False, PaginationConfig={"PageSize": _PAGE})
        )
        recent = [
            item["certificateId"]
            for page in pages
            for item in page["certificates"]
            if item["creationDate"] >= since - _CLOCK_ERROR
        ]
    for certificate_id in recent:
        certificate = look_at_certificate(aws, certificate_id)
        if certificate is not None and certificate.public_key == public_key:
            found.append(certificate)
    return tuple(sorted(found, key=lambda item: item.status != ACTIVE))


def _issued(certificate_id: str, arn: str, status: str, pem: str) -> IssuedCertificate:
    public = x509.load_pem_x509_certificate(pem.encode()).public_key()
    return IssuedCertificate(certificate_id, arn, status, _digest(public), pem)


def _digest(key: object) -> str:
    assert hasattr(key, "public_bytes")
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()
