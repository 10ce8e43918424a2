"""A certificate comes into a folder: the steps that `mli device cert` and `mli device replace` share.

The key is on the disk before a request is sent, and a record of it before AWS may have answered. So whatever ends a
run, the next one finds what was made, by its key, and makes nothing twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mli.errors import RefusedError, StopError, UsageError

if TYPE_CHECKING:
    from mli.cloud.aws import Aws
    from mli.cloud.device_certificates import IssuedCertificate
    from mli.core.certificate_folder import CertificateFolder, Record

How = Literal["new", "found", "there"]


@dataclass(frozen=True, slots=True)
class Obtained:
    """A certificate that lies in its folder now.

    Attributes:
        how: made now, found again after an interruption, or there before.
        notes: what somebody should know.
    """

    certificate: IssuedCertificate
    how: How
    notes: tuple[str, ...] = ()


def check_core_name(core: str) -> None:
    """Raise UsageError where a thing could not be called so."""
    from mli.config.fields import THING

    if not re.fullmatch(THING, core):
        raise UsageError("this is no name of a core", expected="1 to 128 letters, digits, :, _ and -", got=repr(core))


def ensure_authorities(folder: CertificateFolder, given: Path | None) -> None:
    """Put the authorities of AWS IoT's own certificates into the folder.

    Raises:
        UsageError: the file that was named holds none that is valid today.
        StopError: no trust store of this machine has them.
    """
    from mli.core.amazon_roots import amazon_roots
    from mli.core.certificates import check_authorities

    if given is not None:
        found = check_authorities(given, datetime.now(UTC))
        if found.problems:
            raise found.problems[0]
        folder.write(folder.authorities, given.read_bytes())
    elif not folder.authorities.exists():
        folder.write(folder.authorities, amazon_roots().pem)


def obtain(folder: CertificateFolder, aws: Aws, core: str, request: bytes, public_key: str) -> Obtained:
    """Have the certificate of a key in the folder: the one that is there, one that got lost, or a new one.

    Args:
        request: PEM of the signing request.
        public_key: sha256 of its key, hexadecimal.

    Raises:
        UsageError: the folder is of another core or key.
        RefusedError: its certificate is not one that works.
        MliError: AWS did not answer, or a right is missing.
    """
    from mli.core.certificate_folder import arrived

    record = folder.record()
    _check_whose(record, folder, aws, core)
    there = folder.certificate_for(public_key)
    if there is not None:
        working = _working(folder, aws, core, there)
        if record is not None and record.certificate_id is None:
            folder.write_record(arrived(record, working.certificate_id))
        return Obtained(working, "there")
    if record is not None and record.public_key == public_key:
        lost = _lost(folder, aws, record)
        if lost is not None:
            return lost
    return _new(folder, aws, core, request, public_key)


def _new(folder: CertificateFolder, aws: Aws, core: str, request: bytes, public_key: str) -> Obtained:
    from mli.cloud.device_certificates import sign_request
    from mli.core.certificate_folder import asked_now

    record = asked_now(core, aws.account, aws.region, public_key)
    folder.write_record(record)
    signed = sign_request(aws, request.decode())
    _keep(folder, record, signed.certificate)
    return Obtained(signed.certificate, "new", tuple(_superfluous(core, signed.twins)))


def _lost(folder: CertificateFolder, aws: Aws, record: Record) -> Obtained | None:
    """What an interrupted run made, found by its key."""
    from mli.cloud.device_certificates import ACTIVE, certificates_of_key

    since = datetime.fromisoformat(record.asked_at)
    made = certificates_of_key(aws, record.public_key, since)
    if not made or made[0].status != ACTIVE:
        return None
    _keep(folder, record, made[0])
    return Obtained(made[0], "found", tuple(_superfluous(record.core, made[1:])))


def _keep(folder: CertificateFolder, record: Record, certificate: IssuedCertificate) -> None:
    from mli.core.certificate_folder import arrived

    folder.write(folder.certificate, certificate.pem.encode())
    folder.write_record(arrived(record, certificate.certificate_id))


def _superfluous(core: str, twins: tuple[IssuedCertificate, ...]) -> list[str]:
    return [
        f"the same key has a second certificate, which nothing uses: mli device cert {core} --revoke "
        f"{item.certificate_id}"
        for item in twins
        if item.status == "ACTIVE"
    ]


def _check_whose(record: Record | None, folder: CertificateFolder, aws: Aws, core: str) -> None:
    if record is None:
        return
    if record.core != core:
        raise UsageError(
            f"the folder is of another core: {record.core}",
            where=str(folder.path),
            expected=f"a folder of {core}; two devices with one certificate cannot be told apart",
            remedy="another folder: -o DIR",
        )
    if (record.account, record.region) != (aws.account, aws.region):
        raise StopError(
            "The folder's certificate is of another account or region.",
            where=str(folder.path),
            expected=f"account {record.account}, {record.region}",
            got=f"account {aws.account}, {aws.region}",
            remedy=f"--profile and --region {record.region}; or another folder: -o DIR",
        )


def _working(folder: CertificateFolder, aws: Aws, core: str, there: object) -> IssuedCertificate:
    """The certificate of the folder, which AWS must know and take."""
    from cryptography import x509

    from mli.cloud.device_certificates import ACTIVE, look_at_certificate
    from mli.core.certificates import facts_of

    assert isinstance(there, x509.Certificate)
    certificate_id = facts_of(there).sha256
    known = look_at_certificate(aws, certificate_id)
    if known is None:
        raise RefusedError(
            f"AWS IoT does not know the folder's certificate in account {aws.account}, {aws.region}.",
            where=str(folder.certificate),
            got=certificate_id,
            remedy="--profile and --region of where it was made; or another folder for a new one: -o DIR",
        )
    if known.status != ACTIVE:
        raise RefusedError(
            f"The folder's certificate is {known.status}, so no device can use it.",
            where=str(folder.certificate),
            got=certificate_id,
            remedy=f"a new one for the same device: mli device replace {core}",
        )
    return known
