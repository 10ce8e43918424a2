"""``mli device cert``: a device's key, and the certificate that AWS IoT knows it by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.aws_account import Profile, Region, aws_account
from mli.cli.options import AsJson, CertsFolder, IotAuthority, Rsa
from mli.cli.to_type import tells_what_to_type, to_type
from mli.errors import UsageError

if TYPE_CHECKING:
    from mli.cli.issuing import Obtained
    from mli.cloud.aws import Aws
    from mli.core.certificate_folder import CertificateFolder

CERTS = Path("certs")
"""Below which each core has a folder of its own, where nothing else is said."""
_HOW = {
    "new": "made now",
    "found": "made by a run that was interrupted, and found again",
    "there": "there before; nothing was changed",
}


@tells_what_to_type
def cert(
    core: Annotated[str, typer.Argument(metavar="CORE_NAME", help="Name of the core, which becomes the thing's.")],
    certs_folder: CertsFolder = None,
    rsa: Rsa = False,
    ca: IotAuthority = None,
    csr_only: Annotated[
        bool, typer.Option("--csr-only", help="On the device: make the key and thing.csr here; asks no AWS.")
    ] = False,
    csr: Annotated[
        Path | None, typer.Option(help="At the workstation: have this request signed; the key stays on the device.")
    ] = None,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="One more certificate for the same thing, below the folder, in next.")
    ] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="The device uses it: the stack names it, the old ones are revoked.")
    ] = False,
    proven: Annotated[
        bool, typer.Option("--proven", help="With --finish: you have seen the device at work with it.")
    ] = False,
    revoke: Annotated[
        str | None, typer.Option(metavar="ID", help="Take this certificate from the thing, and revoke it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --revoke: the last one, too.")] = False,
    profile: Profile = None,
    region: Region = None,
    as_json: AsJson = False,
) -> None:
    """Make a device's key, and have AWS IoT certify it. The key is made here and is sent to nobody."""
    from mli.cli import device_rotate
    from mli.cli.issuing import check_core_name
    from mli.core.certificate_folder import CertificateFolder, read_request

    check_core_name(core)
    _check_modes({"--csr-only": csr_only, "--csr": csr, "--rotate": rotate, "--finish": finish, "--revoke": revoke})
    folder = CertificateFolder(certs_folder or CERTS / core)
    if csr_only:
        _make_request(folder, core, rsa, as_json)
    elif finish:
        device_rotate.finish(core, folder.path, profile, region, proven=proven, as_json=as_json)
    elif revoke is not None:
        device_rotate.revoke(core, revoke, profile, region, force=force, as_json=as_json)
    else:
        if csr is not None:
            read_request(csr)  # before AWS is asked for anything
        aws = aws_account(profile, region)
        (_rotate if rotate else _make)(folder, core, aws, rsa=rsa, ca=ca, csr=csr, as_json=as_json)


def _check_modes(modes: dict[str, object]) -> None:
    said = [name for name, value in modes.items() if value]
    if len(said) > 1 and set(said) != {"--csr", "--rotate"}:
        raise UsageError(f"{' and '.join(said)} are different things to do", remedy="say one of them")


def _make(
    folder: CertificateFolder, core: str, aws: Aws, *, rsa: bool, ca: Path | None, csr: Path | None, as_json: bool
) -> None:
    with folder.locked():
        obtained = certified(folder, core, aws, rsa=rsa, ca=ca, csr=csr)
    keyless = csr is not None
    _tell(obtained)
    if as_json:
        print(json.dumps(certificate_json(folder, obtained, keyless=keyless), indent=2, ensure_ascii=False))
    else:
        print_certificate(folder, core, obtained, keyless=keyless)


def _rotate(
    folder: CertificateFolder, core: str, aws: Aws, *, rsa: bool, ca: Path | None, csr: Path | None, as_json: bool
) -> None:
    from mli.cli.device_rotate import make_next, next_folder, print_rotated, rotated_json
    from mli.cloud.certificate_change import find_device

    device = find_device(aws, core)
    new = next_folder(folder.path)
    with folder.locked(), new.locked():
        obtained = certified(new, device.core, aws, rsa=rsa, ca=ca, csr=csr)
        old = make_next(aws, device, new, obtained)
    _tell(obtained)
    if as_json:
        body = rotated_json(certificate_json(new, obtained, keyless=csr is not None), device, old)
        print(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        print_rotated(core, device, folder.path, obtained, old)


def certified(
    folder: CertificateFolder, core: str, aws: Aws, *, rsa: bool, ca: Path | None, csr: Path | None
) -> Obtained:
    """The certificate of the key in the folder, or of a request that was made elsewhere; see ``obtain``.

    Raises:
        UsageError: the request or the authority is none.
        MliError: see ``obtain``.
    """
    from mli.cli.issuing import ensure_authorities, obtain
    from mli.core.certificate_folder import public_key_digest, read_request, signing_request

    ensure_authorities(folder, ca)
    if csr is not None:
        request, digest = csr.read_bytes(), public_key_digest(read_request(csr).public_key())
    else:
        key = folder.ensure_key("rsa" if rsa else "ec")
        request, digest = signing_request(key, core), public_key_digest(key.public_key())
    return obtain(folder, aws, core, request, digest)


def _tell(obtained: Obtained) -> None:
    for note in obtained.notes:
        typer.echo(f"mli: {to_type(note)}", err=True)


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
    print(to_type(f"  mli stack deploy {core} --certificate {certificate.certificate_id} --model s3://BUCKET/KEY"))


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
