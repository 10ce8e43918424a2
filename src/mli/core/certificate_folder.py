"""A folder with a device's key and certificate, under the names that the bundle uses.

Each file is there whole or not at all, and only its owner can read it. ``certificate.json`` says whose they are, and
is written before a certificate is asked for, so that one that was made and did not arrive can be found again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import NameOID

from mli.core.certificates import PrivateKey, read_certificates, read_private_key
from mli.core.device_bundle import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from mli.errors import RetryError, StopError, UsageError

REQUEST_FILE, RECORD_FILE = "thing.csr", "certificate.json"
KeyKind = Literal["ec", "rsa"]
_RSA_BITS, _LARGEST_REQUEST_BYTES = 2048, 16 * 1024
_LONGEST_COMMON_NAME = 64
_HALF = re.compile(r"\.(?:thing|root|certificate)\.[a-z.]+-[0-9a-f]{16}")
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True, slots=True)
class Record:
    """Whose files these are.

    Attributes:
        core: name of the core that they are for.
        account, region: where the certificate was asked for.
        public_key: sha256 of the key that it is for (DER, SubjectPublicKeyInfo), hexadecimal.
        asked_at: before which it cannot have been made; ISO 8601.
        certificate_id: None until it has arrived.
        replaces: ids of the certificates that it takes the place of.
    """

    core: str
    account: str
    region: str
    public_key: str
    asked_at: str
    certificate_id: str | None = None
    replaces: tuple[str, ...] = ()


class CertificateFolder:
    """The files of one certificate."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key = path / KEY_FILE
        self.certificate = path / CERTIFICATE_FILE
        self.authorities = path / CA_FILE
        self.request = path / REQUEST_FILE
        self.file_of_record = path / RECORD_FILE

    @contextmanager
    def locked(self) -> Iterator[CertificateFolder]:
        """Make the folder where it is not there, and keep it to this process.

        Raises:
            UsageError: it cannot be one, or something in it is no file.
            StopError: another process works in it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"the folder cannot be used: {error.strerror}", where=str(self.path), remedy="another one: -o DIR"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            where = str(self.path)
            raise StopError("Another mli works in this folder.", where=where, remedy="wait for it") from error
        try:
            self._must_hold_files()
            self._remove_halves()
            yield self
        finally:
            os.close(descriptor)

    def _remove_halves(self) -> None:
        """What a killed process was writing; it may hold a key that nobody uses."""
        for path in self.path.iterdir():
            if _HALF.fullmatch(path.name):
                with contextlib.suppress(OSError):  # on a disk that is read-only it stays
                    path.unlink()

    def _must_hold_files(self) -> None:
        """Who reads a pipe waits for ever."""
        for path in (self.key, self.certificate, self.authorities, self.request, self.file_of_record):
            if os.path.lexists(path) and not path.is_file():
                raise UsageError(
                    "this is no file", where=str(path), remedy="take it away, or take another folder: -o DIR"
                )

    def record(self) -> Record | None:
        """Whose files these are; None where nobody wrote it down.

        Raises:
            UsageError: it is damaged.
        """
        try:
            told = json.loads(self.file_of_record.read_bytes())
            return Record(**{**told, "replaces": tuple(told.get("replaces", ()))})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                "the record of a certificate cannot be read",
                where=str(self.file_of_record),
                got=str(error),
                remedy="remove that file if the folder's certificate is in use; else take another folder: -o DIR",
            ) from error

    def write_record(self, record: Record) -> None:
        """Raises: RetryError."""
        self.write(self.file_of_record, (json.dumps(asdict(record), indent=2) + "\n").encode())

    def ensure_key(self, kind: KeyKind) -> PrivateKey:
        """The key that is there, or a new one, which is on the disk before it is used; for its owner alone.

        Raises:
            UsageError: what is there is no key that TLS can use.
            RetryError: the disk does not take it.
        """
        if os.path.lexists(self.key):
            if not self.key.is_symlink() and self.key.stat().st_mode & 0o077:
                with contextlib.suppress(OSError):  # somebody else's
                    self.key.chmod(0o600)
            return read_private_key(self.key)
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
        if kind == "rsa":
            key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        else:
            key = ec.generate_private_key(ec.SECP256R1())
        # The older forms are read by every TLS library that a device may have beside ours.
        form = serialization.PrivateFormat.TraditionalOpenSSL
        self.write(self.key, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return key

    def certificate_for(self, public_key: str) -> x509.Certificate | None:
        """The certificate that is there; None for none.

        Raises:
            UsageError: it is for another key, or none.
        """
        if not os.path.lexists(self.certificate):
            return None
        found = read_certificates(self.certificate)[0]
        if public_key_digest(found.public_key()) != public_key:
            raise UsageError(
                "the certificate in this folder is for another key",
                where=str(self.certificate),
                remedy="take another folder: -o DIR",
            )
        return found

    def write(self, path: Path, data: bytes) -> None:
        """Whole or not at all, through a power cut too; only the owner reads it.

        Raises:
            RetryError: the disk does not take it.
        """
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            _sync(path.parent)
        except OSError as error:
            raise RetryError(
                "the file cannot be written",
                where=str(path),
                got=error.strerror or str(error),
                remedy="check the disk and its free space; then the same command again goes on from here",
            ) from error
        finally:
            with contextlib.suppress(OSError):  # nothing is there, and the folder is read-only
                temporary.unlink()


def take_place(new: CertificateFolder, of: CertificateFolder) -> None:
    """Move the files of a renewed certificate over those of the old one; done again, it goes on where it ended.

    Raises:
        RetryError: the disk does not take it.
    """
    moves = [(new.authorities, of.authorities), (new.certificate, of.certificate), (new.key, of.key)]
    try:
        if new.certificate.exists() and not new.key.exists():
            of.key.unlink(missing_ok=True)  # of the old certificate; the new one's is on its device
        for source, target in [*moves, (new.file_of_record, of.file_of_record)]:
            if source.exists():
                source.replace(target)
        _sync(of.path)
        for left in (new.request,):
            left.unlink(missing_ok=True)
        new.path.rmdir()
    except OSError as error:
        raise RetryError(
            "the files of the new certificate cannot be put in the old ones' place",
            where=str(of.path),
            got=error.strerror or str(error),
            remedy="the same command again",
        ) from error


def asked_now(core: str, account: str, region: str, public_key: str) -> Record:
    """The record of a certificate that is about to be asked for."""
    return Record(core, account, region, public_key, datetime.now(UTC).isoformat(timespec="seconds"))


def arrived(record: Record, certificate_id: str) -> Record:
    """The same, with the certificate that came."""
    return replace(record, certificate_id=certificate_id)


def signing_request(key: PrivateKey, core: str) -> bytes:
    """PEM of a request for a certificate of ``key``.

    Raises:
        UsageError: AWS IoT signs no key of this kind.
    """
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise UsageError("AWS IoT signs no key of this kind", expected="RSA, or EC on P-256, P-384 or P-521")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, core[:_LONGEST_COMMON_NAME])])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def read_request(path: Path) -> x509.CertificateSigningRequest:
    """A request that was made elsewhere.

    Raises:
        UsageError: it is none, is damaged, or AWS IoT would not sign its key.
    """
    expected = "a request that `mli device cert CORE_NAME --csr-only` or openssl made (BEGIN CERTIFICATE REQUEST)"
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_REQUEST_BYTES)
    except OSError as error:
        raise UsageError(f"the file cannot be read: {error.strerror}", where=str(path), expected=expected) from error
    try:
        request = x509.load_pem_x509_csr(data)
        public, intact = request.public_key(), request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        got = "a private key, which must never leave its device" if b"PRIVATE KEY" in data else str(error)
        raise UsageError(
            "this is no request for a certificate", where=str(path), expected=expected, got=got
        ) from error
    if not intact:
        raise UsageError(
            "the request's own signature is wrong: it was changed on its way", where=str(path), remedy="copy it again"
        )
    good = isinstance(public, rsa.RSAPublicKey) and public.key_size >= _RSA_BITS
    if not good and not (isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES):
        raise UsageError(
            "AWS IoT signs no key of this kind",
            where=str(path),
            expected="RSA with at least 2048 bits, or EC on P-256, P-384 or P-521",
        )
    return request


def public_key_digest(key: PublicKeyTypes) -> str:
    """sha256 of a public key (DER, SubjectPublicKeyInfo), hexadecimal."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
