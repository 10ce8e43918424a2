"""``mli device bundle``: greengrass-setup.zip, from options, from the device's stack, or from both."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.aws_account import Profile, aws_account
from mli.cli.options import AsJson, Port, Trust
from mli.cli.to_type import tells_what_to_type, to_type
from mli.errors import UsageError

if TYPE_CHECKING:
    from mli.cloud.aws import Aws
    from mli.cloud.certificate_change import Device
    from mli.cloud.device_facts import DeviceFacts
    from mli.core.certificate_folder import CertificateFolder
    from mli.core.certificates import CertificateFacts
    from mli.core.device_bundle import Bundle

DEFAULT_PORT = 8883
BUNDLE = Path("greengrass-setup.zip")
_REMEDY = "say it; or --stack CORE_NAME --certs DIR, which take it from AWS and from a folder"


@dataclass(frozen=True, slots=True)
class Said:
    """What the options and the stack say so far; None where nobody did."""

    thing: str | None = None
    endpoint: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None
    region: str | None = None
    role_alias: str | None = None
    credentials_endpoint: str | None = None


@tells_what_to_type
def bundle(
    stack: Annotated[
        str | None, typer.Option(metavar="CORE_NAME", help="Take from its stack in AWS what is not said here.")
    ] = None,
    certs: Annotated[
        Path | None, typer.Option(help="Folder with the three files, as `mli device cert` makes it.")
    ] = None,
    thing: Annotated[str | None, typer.Option(help="Name of the thing, or its ARN.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Host of the broker: AWS IoT's data endpoint, or your own.")
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="The device's certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="The key is on the device already.")] = False,
    ca: Annotated[Path | None, typer.Option(help="Authority of the broker's certificate, PEM.")] = None,
    port: Port = DEFAULT_PORT,
    out: Annotated[Path, typer.Option("-o", "--output-file", help="The file to write.")] = BUNDLE,
    region: Annotated[
        str | None, typer.Option(help="Of the stack, and of the model buckets [default: each bucket's own]")
    ] = None,
    role_alias: Annotated[
        str | None, typer.Option(help="Role alias with which the device's certificate reads the model buckets.")
    ] = None,
    credentials_endpoint: Annotated[
        str | None, typer.Option(help="Host of AWS IoT's credentials provider; goes with --role-alias.")
    ] = None,
    trust: Trust = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Make greengrass-setup.zip of certificate, key, authority and endpoint; nothing in it needs editing."""
    said = _with_folder(Said(thing, endpoint, cert, key, ca, region, role_alias, credentials_endpoint), certs)
    notes: tuple[str, ...] = ()
    if stack is not None:
        said, notes = _with_stack(said, stack, certs, profile)
    written = write(said, out, port=port, trust=tuple(trust or ()), no_key=no_key, overwrite=force)
    for caution in (*notes, *written.cautions):
        typer.echo(f"mli: {to_type(caution)}", err=True)
    if as_json:
        print(json.dumps(bundle_json(written, notes), indent=2, ensure_ascii=False))
    else:
        print_bundle(written)


def write(
    said: Said, out: Path, *, port: int = DEFAULT_PORT, trust: tuple[Path, ...] = (), no_key: bool, overwrite: bool
) -> Bundle:
    """Write what was said.

    Raises:
        UsageError: something is missing or wrong; everything at once.
        RetryError: the disk does not take it.
    """
    from mli.core.bundle_request import BundleRequest
    from mli.core.device_bundle import write_bundle

    if no_key and said.key is not None:
        raise UsageError("--no-key leaves the key out, and --key names one", remedy="say one of the two")
    options = {
        "--thing": said.thing,
        "--endpoint": said.endpoint,
        "--cert": said.certificate,
        "--ca": said.authorities,
    }
    if not no_key:
        options["--key"] = said.key
    missing = [name for name, value in options.items() if value is None]
    if missing or said.thing is None or said.endpoint is None or said.certificate is None or said.authorities is None:
        raise UsageError(
            f"the device's folder needs {', '.join(missing)}",
            remedy=_REMEDY if missing != ["--key"] else "name it; or --no-key where it is on the device already",
        )
    request = BundleRequest(
        thing=said.thing,
        endpoint=said.endpoint,
        certificate=said.certificate,
        key=None if no_key else said.key,
        authorities=said.authorities,
        port=port,
        region=said.region,
        role_alias=said.role_alias,
        credentials_endpoint=said.credentials_endpoint,
        trust=trust,
    )
    return write_bundle(request, out, overwrite=overwrite)


def _with_folder(said: Said, folder: Path | None) -> Said:
    if folder is None:
        return said
    from mli.core.device_bundle import CA_FILE, CERTIFICATE_FILE, KEY_FILE

    if not folder.is_dir():
        raise UsageError(
            "there is no such folder",
            where=str(folder),
            remedy="mli device cert CORE_NAME makes one: certs/CORE_NAME",
        )
    if not any((folder / name).exists() for name in (KEY_FILE, CERTIFICATE_FILE, CA_FILE)):
        below = sorted(path.parent.name for path in folder.glob(f"*/{CERTIFICATE_FILE}"))
        raise UsageError(
            "the folder holds no files of a device",
            where=str(folder),
            expected=f"{CERTIFICATE_FILE}, {KEY_FILE} and {CA_FILE}, as mli device cert makes them",
            got=f"folders of devices: {', '.join(below)}" if below else "none of these",
            remedy=f"--certs {folder / below[0]}" if len(below) == 1 else "--certs certs/CORE_NAME",
        )
    key = folder / KEY_FILE
    return replace(
        said,
        certificate=said.certificate or folder / CERTIFICATE_FILE,
        key=said.key or (key if key.exists() else None),
        authorities=said.authorities or folder / CA_FILE,
    )


def _check_folder(folder: Path | None, core: str) -> None:
    """A folder that says whose it is must be of this core."""
    from mli.core.certificate_folder import CertificateFolder

    record = None if folder is None else CertificateFolder(folder).record()
    if record is not None and record.core != core:
        raise UsageError(
            "the folder's certificate is of another core", where=str(folder), expected=core, got=record.core
        )


def _with_stack(said: Said, core: str, certs: Path | None, profile: str | None) -> tuple[Said, tuple[str, ...]]:
    """What the options leave open, from AWS; and what somebody should know."""
    from mli.cloud.device_facts import device_facts

    aws = aws_account(profile, said.region)
    facts = device_facts(aws, core)
    _check_folder(certs, facts.core)
    of_options = said.role_alias is not None or said.credentials_endpoint is not None
    filled = replace(
        said,
        thing=said.thing or facts.thing_arn,
        endpoint=said.endpoint or facts.endpoint,
        region=aws.region,
        role_alias=said.role_alias if of_options else facts.role_alias,
        credentials_endpoint=said.credentials_endpoint if of_options else facts.credentials_endpoint,
    )
    return filled, _doubts(aws, facts, filled.certificate)


def _doubts(aws: Aws, facts: DeviceFacts, certificate: Path | None) -> tuple[str, ...]:
    """Whether the device would be turned away with this certificate."""
    from mli.cloud.thing_certificates import certificates_of
    from mli.core.certificates import facts_of, read_certificates

    if certificate is None or not certificate.exists():
        return ()
    own = facts_of(read_certificates(certificate)[0]).sha256
    if own == facts.certificate_id or own in certificates_of(aws, facts.thing):
        return ()
    return (
        f"the certificate {own[:12]}… does not belong to the thing {facts.thing}, so AWS IoT would turn the device "
        f"away; mli stack deploy {facts.core} --certificate {own}",
    )


def write_for_device(
    aws: Aws, device: Device, folder: CertificateFolder, out: Path, *, port: int, trust: tuple[Path, ...]
) -> Bundle:
    """The folder of a device that AWS knows, with the files of a certificate folder; replaces one that is there.

    Raises:
        UsageError: something is wrong; everything at once.
        MliError: AWS did not answer, or the disk does not take it.
    """
    from mli.cloud.device_facts import DATA, endpoint_of, facts_of_stack

    said = Said(thing=aws.arn("iot", f"thing/{device.thing}"), region=aws.region)
    if device.stack is None:
        said = replace(said, endpoint=endpoint_of(aws, DATA))
    else:
        facts = facts_of_stack(aws, device.core, device.stack)
        said = replace(
            said,
            endpoint=facts.endpoint,
            role_alias=facts.role_alias,
            credentials_endpoint=facts.credentials_endpoint,
        )
    said = _with_folder(said, folder.path)
    return write(said, out, port=port, trust=trust, no_key=False, overwrite=True)


def print_bundle(written: Bundle) -> None:
    """What was written, and what comes next."""
    secret = "it holds the private key, so only you can read it" if written.key else "it holds no private key"
    print(f"{written.path}  {written.size_bytes:,} bytes; {secret}")
    print(f"  thing      {written.thing}")
    print(f"  broker     {written.endpoint}, port {written.port}")
    print(f"  identity   {_certificate_text(written.certificate)}")
    if written.key is None:
        print("  key        on the device already: certs/thing.private.key below its root")
    else:
        print(f"  key        {written.key}; it belongs to the certificate")
    for authority in written.authorities:
        print(f"  authority  {_certificate_text(authority)}")
    print(f"  trust      {_trust_text(written.trusted)}")
    print("On the device, as root:")
    print(f"  unzip {written.path.name} -d /var/lib/mli")
    print("  mli device install --root /var/lib/mli")


def _certificate_text(facts: CertificateFacts) -> str:
    return f"{facts.subject}, until {facts.not_after:%Y-%m-%d}, sha256 {facts.sha256[:16]}…"


def _trust_text(keys: int) -> str:
    if not keys:
        return "no key: deployments need no signature; the broker alone says who may deploy"
    return f"{keys} key{'s' if keys > 1 else ''}: only deployments signed by {'one of them' if keys > 1 else 'it'}"


def bundle_json(written: Bundle, notes: tuple[str, ...] = ()) -> dict[str, Any]:
    """The same for programs."""
    return {
        "path": str(written.path),
        "bytes": written.size_bytes,
        "thing": written.thing,
        "endpoint": written.endpoint,
        "port": written.port,
        "files": list(written.files),
        "certificate": _certificate_json(written.certificate),
        "authorities": [_certificate_json(item) for item in written.authorities],
        "trusted": written.trusted,
        "cautions": [*notes, *written.cautions],
    }


def _certificate_json(facts: CertificateFacts) -> dict[str, Any]:
    return {
        "subject": facts.subject,
        "sha256": facts.sha256,
        "not_before": facts.not_before.isoformat(),
        "not_after": facts.not_after.isoformat(),
    }
