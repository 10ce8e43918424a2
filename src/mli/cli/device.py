"""``mli device``: the device's folder, and the service that runs from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.device_install import install

if TYPE_CHECKING:
    from mli.core.certificates import CertificateFacts
    from mli.core.device_bundle import Bundle

device_app = typer.Typer(help="Make a device's folder, and its service.", no_args_is_help=True, rich_markup_mode=None)


@device_app.command()
def bundle(
    thing: Annotated[str, typer.Option(help="Name of the thing, or its ARN.")],
    endpoint: Annotated[str, typer.Option(help="Host of the broker: AWS IoT's data endpoint, or your own.")],
    cert: Annotated[Path, typer.Option(help="The device's certificate, PEM.")],
    key: Annotated[Path, typer.Option(help="Its private key, PEM.")],
    ca: Annotated[Path, typer.Option(help="Authority of the broker's certificate, PEM.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="8883, or 443 where only that is let through.")] = 8883,
    out: Annotated[Path, typer.Option("-o", "--output-file", help="The file to write.")] = Path(
        "greengrass-setup.zip"
    ),
    region: Annotated[str | None, typer.Option(help="Of the model buckets [default: each bucket's own]")] = None,
    role_alias: Annotated[
        str | None, typer.Option(help="Role alias with which the device's certificate reads the model buckets.")
    ] = None,
    credentials_endpoint: Annotated[
        str | None, typer.Option(help="Host of AWS IoT's credentials provider; goes with --role-alias.")
    ] = None,
    trust: Annotated[
        list[Path] | None,
        typer.Option(help="Public key (PEM) whose holder may deploy; may be said several times."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make greengrass-setup.zip of certificate, key, authority and endpoint; nothing in it needs editing."""
    from mli.core.bundle_request import BundleRequest
    from mli.core.device_bundle import write_bundle

    request = BundleRequest(
        thing=thing,
        endpoint=endpoint,
        certificate=cert,
        key=key,
        authorities=ca,
        port=port,
        region=region,
        role_alias=role_alias,
        credentials_endpoint=credentials_endpoint,
        trust=tuple(trust or ()),
    )
    written = write_bundle(request, out, overwrite=force)
    for caution in written.cautions:
        typer.echo(f"mli: {caution}", err=True)
    if as_json:
        print(json.dumps(_bundle_json(written), indent=2, ensure_ascii=False))
    else:
        _print_bundle(written)


device_app.command()(install)


def _print_bundle(written: Bundle) -> None:
    print(f"{written.path}  {written.size_bytes:,} bytes; it holds the private key, so only you can read it")
    print(f"  thing      {written.thing}")
    print(f"  broker     {written.endpoint}, port {written.port}")
    print(f"  identity   {_certificate_text(written.certificate)}")
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


def _bundle_json(written: Bundle) -> dict[str, Any]:
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
        "cautions": list(written.cautions),
    }


def _certificate_json(facts: CertificateFacts) -> dict[str, Any]:
    return {
        "subject": facts.subject,
        "sha256": facts.sha256,
        "not_before": facts.not_before.isoformat(),
        "not_after": facts.not_after.isoformat(),
    }
