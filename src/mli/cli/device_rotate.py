"""A device's next certificate: ``mli device cert --rotate``, ``--finish``, ``--revoke``, and ``mli device replace``.

The new files lie in the folder ``next`` below the device's own until the old certificate is switched off.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.aws_account import Profile, Region, aws_account
from mli.cli.options import AsJson, CertsFolder, IotAuthority, Port, Rsa, Trust
from mli.cli.to_type import tells_what_to_type, to_type
from mli.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from mli.cli.issuing import Obtained
    from mli.cloud.aws import Aws
    from mli.cloud.certificate_change import Device
    from mli.core.certificate_folder import CertificateFolder

NEXT = "next"


def next_folder(folder: Path) -> CertificateFolder:
    """Where the files of the next certificate lie until it is in use."""
    from mli.core.certificate_folder import CertificateFolder

    return CertificateFolder(folder / NEXT)


def make_next(aws: Aws, device: Device, new: CertificateFolder, obtained: Obtained) -> tuple[str, ...]:
    """Attach a certificate that has just come, and remember which ones it takes the place of.

    Raises:
        MliError: AWS did not answer, or a right is missing; the same call again goes on.
    """
    from mli.cloud.certificate_change import attach, old_certificates

    record = new.record()
    before = () if record is None else record.replaces
    old = old_certificates(device, obtained.certificate.certificate_id, before)
    if record is not None and record.replaces != old:
        new.write_record(replace(record, replaces=old))
    attach(aws, device, obtained.certificate)
    return old


def finish(core: str, folder: Path, profile: str | None, region: str | None, *, proven: bool, as_json: bool) -> None:
    """The device uses its new certificate: the stack names it, the old ones are revoked, the files change places."""
    from mli.cloud.certificate_change import find_device, must_be_in_use
    from mli.core.certificate_folder import CertificateFolder, take_place

    new = next_folder(folder)
    record = new.record() if new.path.is_dir() else None
    if record is None or record.certificate_id is None:
        raise RefusedError(
            f"No new certificate of {core} waits to be used.",
            where=str(new.path),
            remedy=f"mli device cert {core} --rotate makes one; -o DIR where it lies elsewhere",
        )
    aws = aws_account(profile, region)
    with CertificateFolder(folder).locked() as old_folder, new.locked():
        _must_be_here(aws, new, record.account, record.region)
        device = find_device(aws, core)
        must_work(aws, device, record.certificate_id)
        if not proven:
            must_be_in_use(aws, device, record.certificate_id)
        did = complete(aws, device, record.certificate_id, record.replaces, quiet=as_json)
        take_place(new, old_folder)
    _show(core, record.certificate_id, did, as_json, f"{folder} holds the new files")


def complete(aws: Aws, device: Device, new: str, replaces: tuple[str, ...], *, quiet: bool) -> tuple[str, ...]:
    """Have the stack name the new certificate, then switch the old ones off; what was done, in words."""
    from mli.cli.stack_view import LinesWatcher
    from mli.cloud.certificate_change import name_in_stack, old_certificates, switch_off

    did: list[str] = []
    if name_in_stack(aws, device, new, LinesWatcher(yes=True, quiet=quiet)) and device.stack is not None:
        did.append(f"the stack {device.stack.name} names {new[:12]}…")
    for certificate_id in old_certificates(device, new, replaces):
        did += switch_off(aws, device.thing, certificate_id)
    return tuple(did)


def must_work(aws: Aws, device: Device, certificate_id: str) -> None:
    """Refuse to switch anything off for a certificate that does not work itself.

    Raises:
        RefusedError: it is not active, or not attached to the thing.
        MliError: AWS did not answer, or a right is missing.
    """
    from mli.cloud.device_certificates import ACTIVE, look_at_certificate

    known = look_at_certificate(aws, certificate_id)
    if known is None or known.status != ACTIVE or certificate_id not in device.certificates:
        got = "AWS does not know it" if known is None else known.status
        raise RefusedError(
            f"The new certificate of {device.thing} does not work yet; the old one stays as it is.",
            where=certificate_id,
            expected=f"active, and attached to {device.thing}",
            got=got if known is None or known.status != ACTIVE else "it is not attached",
            remedy=f"mli device cert {device.core} --rotate goes on with it",
        )


def revoke(core: str, wanted: str, profile: str | None, region: str | None, *, force: bool, as_json: bool) -> None:
    """Take one certificate from a device for good; one that no thing has needs none."""
    from mli.cloud.certificate_change import find_device, may_go, switch_off
    from mli.cloud.device_certificates import look_at_certificate
    from mli.cloud.stack_certificate import certificate_id
    from mli.cloud.thing_certificates import things_of

    aws = aws_account(profile, region)
    chosen = certificate_id(wanted, aws)
    certificate = look_at_certificate(aws, chosen)
    if certificate is None:
        raise RefusedError(
            f"There is no certificate {chosen[:12]}… in {aws.region}.",
            where=f"account {aws.account}",
            got=chosen,
            remedy=f"--region REGION for another region; aws iot list-thing-principals --thing-name {core}",
        )
    thing = core
    if things_of(aws, certificate.arn):
        device = find_device(aws, core)
        thing = device.thing
        if not force:
            may_go(aws, device, certificate)
    did = switch_off(aws, thing, chosen)
    _show(core, chosen, did, as_json, None if did else f"{chosen[:12]}… was revoked before; nothing was to do")


@tells_what_to_type
def replace_device(
    thing: Annotated[str, typer.Argument(metavar="THING", help="Name of the thing, or of its core.")],
    certs_folder: CertsFolder = None,
    rsa: Rsa = False,
    ca: IotAuthority = None,
    port: Port = 8883,
    trust: Trust = None,
    profile: Profile = None,
    region: Region = None,
    as_json: AsJson = False,
) -> None:
    """A new SD card: a new key and folder for the same thing and topic; the old certificates are revoked."""
    from mli.cli.device_bundle import BUNDLE, bundle_json, print_bundle, write_for_device
    from mli.cli.device_cert import CERTS, certificate_json, certified
    from mli.cloud.certificate_change import find_device
    from mli.core.certificate_folder import CertificateFolder, take_place

    aws = aws_account(profile, region)
    device = find_device(aws, thing)
    folder = CertificateFolder(certs_folder or CERTS / device.core)
    new = next_folder(folder.path)
    with folder.locked(), new.locked():
        obtained = certified(new, device.core, aws, rsa=rsa, ca=ca, csr=None)
        old = make_next(aws, device, new, obtained)
        device = find_device(aws, thing)
        written = write_for_device(aws, device, new, folder.path / BUNDLE, port=port, trust=tuple(trust or ()))
        did = complete(aws, device, obtained.certificate.certificate_id, old, quiet=as_json)
        take_place(new, folder)
    for note in (*obtained.notes, *written.cautions):
        typer.echo(f"mli: {to_type(note)}", err=True)
    if as_json:
        body = certificate_json(folder, obtained, keyless=False)
        print(json.dumps({**body, "thing": device.thing, "did": list(did), "bundle": bundle_json(written)}, indent=2))
        return
    print(f"{device.thing} has the certificate {obtained.certificate.certificate_id}")
    for line in did:
        print(f"  {line}")
    print_bundle(written)


def print_rotated(core: str, device: Device, folder: Path, obtained: Obtained, old: tuple[str, ...]) -> None:
    """What there is beside the old certificate now, and what comes next."""
    new = folder / NEXT
    print(f"{obtained.certificate.certificate_id}  active, and attached to {device.thing}")
    print(f"  arn      {obtained.certificate.arn}")
    print(f"  files    in {new}; only you can read them")
    for certificate_id in old:
        print(f"  beside   {certificate_id[:12]}…, which stays active until --finish")
    keyless = "" if (new / "thing.private.key").exists() else " --no-key"
    print("Next:")
    print(to_type(f"  mli device bundle {_of(device)} --certs {shlex.quote(str(new))}{keyless} --force"))
    print("on the device, as root: unzip -o greengrass-setup.zip -d /var/lib/mli; mli device install; then")
    print(to_type(f"  mli device cert {core} --finish"))


def _of(device: Device) -> str:
    """How `mli device bundle` finds the device, whatever its stack is called, or without one."""
    from mli.cloud.names import device_stack

    if device.stack is None:
        asked = "aws iot describe-endpoint --endpoint-type iot:Data-ATS --query endpointAddress --output text"
        return f"--thing {device.thing} --endpoint $({asked})"
    return f"--stack {device.core if device.stack.name == device_stack(device.core) else device.stack.name}"


def rotated_json(body: dict[str, Any], device: Device, old: tuple[str, ...]) -> dict[str, Any]:
    """The same for programs."""
    return {**body, "thing": device.thing, "policies": list(device.policies), "replaces": list(old)}


def _must_be_here(aws: Aws, new: CertificateFolder, account: str, region: str) -> None:
    if (account, region) != (aws.account, aws.region):
        raise UsageError(
            "the new certificate is of another account or region",
            where=str(new.path),
            expected=f"account {account}, {region}",
            got=f"account {aws.account}, {aws.region}",
            remedy=f"--profile and --region {region}",
        )


def _show(core: str, certificate_id: str, did: tuple[str, ...], as_json: bool, last: str | None) -> None:
    if as_json:
        print(json.dumps({"core": core, "certificate_id": certificate_id, "did": list(did)}, indent=2))
        return
    for line in (*did, *([last] if last else [])):
        print(line)
