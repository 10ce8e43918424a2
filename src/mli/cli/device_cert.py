"""``mli device cert``: a device's key, and the certificate that AWS IoT knows it by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.aws_account import Profile, Region, aws_account
from mli.errors import UsageError

if TYPE_CHECKING:
    from mli.cli.issuing import Obtained
    from mli.core.certificate_folder import CertificateFolder

CERTS = Path("certs")
"""Below which each core has a folder of its own, where nothing else is said."""
_HOW = {
    "new": "made now",
    "found": "made by a run that was interrupted, and found again",
    "there": "there before; nothing was changed",
}


def cert(
    core: Annotated[str, typer.Argument(metavar="CORE_NAME", help="Name of the core, which becomes the thing's.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--output-dir", help="Folder of the files [default: certs/CORE_NAME]")
    ] = None,
    rsa: Annotated[bool, typer.Option("--rsa", help="An RSA key of 2048 bits, for devices that know no EC.")] = False,
    ca: Annotated[
        Path | None, typer.Option(help="Authority of AWS IoT's certificates, PEM [default: Amazon's, from here]")
    ] = None,
    csr_only: Annotated[
        bool, typer.Option("--csr-only", help="On the device: make the key and thing.csr here; asks no AWS.")
    ] = False,
    csr: Annotated[
        Path | None, typer.Option(help="At the workstation: have this request signed; the key stays on the device.")
    ] = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a device's key, and have AWS IoT certify it. The key is made here and is sent to nobody."""
    from mli.cli.issuing import check_core_name
    from mli.core.certificate_folder import CertificateFolder

    check_core_name(core)
    if csr_only and csr is not None:
        raise UsageError("--csr-only makes a request, --csr FILE has one signed", remedy="say one of the two")
    folder = CertificateFolder(out or CERTS / core)
    if csr_only:
        _make_request(folder, core, rsa, as_json)
        return
    with folder.locked():
        obtained = _certified(folder, core, rsa, ca, csr, profile, region)
    for note in obtained.notes:
        typer.echo(f"mli: {note}", err=True)
    body = certificate_json(folder, obtained, keyless=csr is not None)
    if as_json:
        print(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        print_certificate(folder, core, obtained, keyless=csr is not None)


def _certified(
    folder: CertificateFolder,
    core: str,
    rsa: bool,
    ca: Path | None,
    csr: Path | None,
    profile: str | None,
    region: str | None,
) -> Obtained:
    from mli.cli.issuing import ensure_authorities, obtain
    from mli.core.certificate_folder import public_key_digest, read_request, signing_request

    if csr is not None:
        asked = read_request(csr)
        request, digest = csr.read_bytes(), public_key_digest(asked.public_key())
    aws = aws_account(profile, region)
    ensure_authorities(folder, ca)
    if csr is None:
        key = folder.ensure_key("rsa" if rsa else "ec")
        request, digest = signing_request(key, core), public_key_digest(key.public_key())
    return obtain(folder, aws, core, request, digest)


def _make_request(folder: CertificateFolder, core: str, rsa: bool, as_json: bool) -> None:
    from mli.core.certificate_folder import public_key_digest, signing_request
    from mli.core.certificates import key_text

    with folder.locked():
        key = folder.ensure_key("rsa" if rsa else "ec")
        folder.write(folder.request, signing_request(key, core))
    if as_json:
        digest = public_key_digest(key.public_key())
        body = {"request": str(folder.request), "key": str(folder.key), "public_key_sha256": digest}
        print(json.dumps(body, indent=2))
        return
    print(f"{folder.request}  a request for a certificate; it holds no secret")
    print(f"  key      {folder.key}; {key_text(key)}; it stays here")
    print("At a workstation with AWS credentials:")
    print(f"  mli device cert {core} --csr {folder.request.name}")


def print_certificate(folder: CertificateFolder, core: str, obtained: Obtained, *, keyless: bool) -> None:
    """What there is now, and what comes next."""
    from mli.core.certificates import key_text, read_private_key

    certificate = obtained.certificate
    print(f"{certificate.certificate_id}  active; {_HOW[obtained.how]}")
    print(f"  arn      {certificate.arn}")
    if keyless:
        print("  key      on the device")
    else:
        print(f"  key      {folder.key}; {key_text(read_private_key(folder.key))}; it was sent to nobody")
    print(f"  files    {folder.certificate.name}, {folder.authorities.name} in {folder.path}; only you can read them")
    print("Next:")
    print(f"  mli stack deploy {core} --certificate {certificate.certificate_id}")


def certificate_json(folder: CertificateFolder, obtained: Obtained, *, keyless: bool) -> dict[str, Any]:
    """The same for programs."""
    certificate = obtained.certificate
    return {
        "certificate_id": certificate.certificate_id,
        "arn": certificate.arn,
        "status": certificate.status,
        "how": obtained.how,
        "certificate": str(folder.certificate),
        "key": None if keyless else str(folder.key),
        "ca": str(folder.authorities),
        "notes": list(obtained.notes),
    }
