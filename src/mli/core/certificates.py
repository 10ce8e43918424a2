"""What PEM files hold, and whether they are what a device needs: its certificate, its key, its authorities.

Each check says everything that it finds, not only the first thing: someone stands before a machine with three files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from mli.delivery.one_line import one_line
from mli.errors import UsageError

_SOON = timedelta(days=30)
_LARGEST_BYTES = 1024 * 1024
_SHORTEST_RSA_BITS = 2048
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_PEM = serialization.Encoding.PEM
_SPKI = serialization.PublicFormat.SubjectPublicKeyInfo

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate, for people and for ``--json``.

    Attributes:
        sha256: hexadecimal, of its DER form; AWS IoT calls this the certificate's id.
        is_authority: it may sign others.
    """

    subject: str
    issuer: str
    sha256: str
    not_before: datetime
    not_after: datetime
    is_authority: bool


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check found.

    Attributes:
        facts: of the certificates that could be read, in the file's order.
        problems: with any of these it will not work.
        cautions: it works, but somebody should know.
    """

    facts: tuple[CertificateFacts, ...] = ()
    problems: tuple[UsageError, ...] = ()
    cautions: tuple[str, ...] = ()


def check_identity(certificate: Path, key: Path | None, now: datetime) -> Findings:
    """Whether the two files are a device's certificate and the private key that belongs to it, today.

    Args:
        key: None where it lies elsewhere, and only the certificate can be looked at.
    """
    problems: list[UsageError] = []
    cautions: list[str] = []
    chain: tuple[x509.Certificate, ...] = ()
    try:
        chain = read_certificates(certificate)
        own = chain[0]
        problems += _time_problems(certificate, own, now)
        cautions += _soon(certificate, own, now)
        if _is_authority(own):
            cautions.append(f"{certificate} is an authority's certificate; a device's own has no need to sign others")
    except UsageError as error:
        problems.append(error)
    if key is not None:
        try:
            private = read_private_key(key)
            if chain:
                problems += _pair_problems(certificate, chain, key, private)
            problems += _weakness(key, private)
        except UsageError as error:
            problems.append(error)
    return Findings(tuple(map(facts_of, chain)), tuple(problems), tuple(cautions))


def check_authorities(path: Path, now: datetime) -> Findings:
    """Whether the file holds authorities, of which at least one is valid today."""
    try:
        found = read_certificates(path)
    except UsageError as error:
        return Findings(problems=(error,))
    problems = [
        UsageError(
            f"a certificate in the file is no authority's: {_name(item.subject)}",
            where=str(path),
            expected="certificates that may sign others (CA:TRUE)",
            remedy="for AWS IoT take AmazonRootCA1.pem; for a broker of your own, the certificate of its authority",
        )
        for item in found
        if not _is_authority(item)
    ]
    timely = [_time_problems(path, item, now) for item in found]
    cautions: list[str] = []
    if all(timely):
        problems += timely[0]
    else:
        cautions += [f"{path}: {errors[0].what}; the others in the file are used" for errors in timely if errors]
        cautions += [text for item in found for text in _soon(path, item, now)]
    return Findings(tuple(map(facts_of, found)), tuple(problems), tuple(cautions))


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file, at least one.

    Raises:
        UsageError: no such file, no PEM, a damaged one, or something else in it.
    """
    data, kinds = _pem(path, "a certificate")
    if "CERTIFICATE" not in kinds:
        raise UsageError(
            "the file holds no certificate", where=str(path), expected="BEGIN CERTIFICATE", got=f"BEGIN {kinds[0]}"
        )
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError as error:
        raise _damaged(path, "certificate", error) from error


def read_private_key(path: Path) -> PrivateKey:
    """The private key of a PEM file.

    Raises:
        UsageError: no such file, no PEM, a damaged one, one with a passphrase, or something else in it.
    """
    data, kinds = _pem(path, "a private key")
    if not any(kind.endswith("PRIVATE KEY") for kind in kinds):
        raise UsageError(
            "the file holds no private key",
            where=str(path),
            expected="BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY or BEGIN EC PRIVATE KEY",
            got=f"BEGIN {kinds[0]}",
        )
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        raise UsageError(
            "the private key has a passphrase, and at a device nobody is there to type it",
            where=str(path),
            remedy=f"openssl pkey -in {path} -out plain.key",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _damaged(path, "private key", error) from error
    if not isinstance(key, PrivateKey):
        raise UsageError("TLS cannot use this kind of key", where=str(path), expected="RSA or elliptic curve")
    return key


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """What there is to say of one certificate."""
    return CertificateFacts(
        subject=_name(certificate.subject),
        issuer=_name(certificate.issuer),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        is_authority=_is_authority(certificate),
    )


def key_text(key: PrivateKey) -> str:
    """Kind and size of a key."""
    if isinstance(key, rsa.RSAPrivateKey):
        return f"RSA, {key.key_size} bits"
    return f"EC, {key.curve.name}" if isinstance(key, ec.EllipticCurvePrivateKey) else "EdDSA"


def _pem(path: Path, wanted: str) -> tuple[bytes, list[str]]:
    """The file's bytes and the kinds of its blocks, at least one."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"the file cannot be read: {error.strerror}", where=str(path), expected=f"{wanted}, as PEM"
        ) from error
    kinds = [kind.decode() for kind in _BLOCK.findall(data)]
    if len(data) > _LARGEST_BYTES or not kinds:
        raise UsageError(
            "this is no PEM file",
            where=str(path),
            expected=f"{wanted} between -----BEGIN …----- and -----END …-----",
            got=_content(data),
            remedy="openssl x509 -inform der -in FILE -out FILE.pem makes one of a binary certificate",
        )
    return data, kinds


def _content(data: bytes) -> str:
    if not data:
        return "an empty file"
    if len(data) > _LARGEST_BYTES:
        return "a file of more than 1 MiB"
    return "binary data (DER?)" if data[:1] == b"\x30" or b"\0" in data else "other text"


def _damaged(path: Path, what: str, error: Exception) -> UsageError:
    return UsageError(
        f"the {what} is damaged", where=str(path), got=str(error).splitlines()[0], remedy="copy the file again"
    )


def _name(name: x509.Name) -> str:
    return one_line(name.rfc4514_string()) or "(no name)"


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        # Roots older than extensions: version 1, signed by themselves.
        return certificate.version is x509.Version.v1 and certificate.subject == certificate.issuer
    except ValueError:
        return False  # an extension that nobody can read promises nothing


def _time_problems(path: Path, certificate: x509.Certificate, now: datetime) -> list[UsageError]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begin <= now <= end:
        return []
    return [
        UsageError(
            f"the certificate has expired: {_name(certificate.subject)}"
            if now > end
            else f"the certificate is not valid yet: {_name(certificate.subject)}",
            where=str(path),
            expected=f"a time from {_time(begin)} to {_time(end)}",
            got=f"this machine's clock says {_time(now)}",
            remedy="make a new certificate" if now > end else "set the clock, or wait",
        )
    ]


def _soon(path: Path, certificate: x509.Certificate, now: datetime) -> list[str]:
    end = certificate.not_valid_after_utc
    if now <= end < now + _SOON:
        days = (end - now).days
        left = f"{days} day{'' if days == 1 else 's'}"
        return [f"{path} expires in {left}, on {_time(end)}: {_name(certificate.subject)}"]
    return []


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _pair_problems(
    certificate: Path, chain: tuple[x509.Certificate, ...], key: Path, private: PrivateKey
) -> list[UsageError]:
    public = private.public_key().public_bytes(_PEM, _SPKI)
    owners = [item.public_key().public_bytes(_PEM, _SPKI) == public for item in chain]
    if owners[0]:
        return []
    return [
        UsageError(
            "the private key does not belong to the certificate",
            where=f"{key} and {certificate}",
            got=f"it belongs to certificate {owners.index(True) + 1} of the file" if any(owners) else None,
            remedy="put the device's certificate first in the file"
            if any(owners)
            else "take the two files that were made together",
        )
    ]


def _weakness(path: Path, key: PrivateKey) -> list[UsageError]:
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _SHORTEST_RSA_BITS:
        return [
            UsageError(
                "the private key is too short for TLS today",
                where=str(path),
                expected=f"RSA with at least {_SHORTEST_RSA_BITS} bits",
                got=f"{key.key_size} bits",
                remedy="make a new key and certificate",
            )
        ]
    return []
