"""``mli model push``: a verified archive goes into a bucket, from which devices fetch it."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.aws_account import Profile, Region, aws_account
from mli.cli.model import prove
from mli.cli.progress import InstallProgress

if TYPE_CHECKING:
    from mli.cloud.model_push import Archive, Place
    from mli.types import ModelSpec


def push(
    archive: Annotated[Path, typer.Argument(help="A model archive: .zip or .tar.gz.")],
    destination: Annotated[
        str | None,
        typer.Argument(help="s3://BUCKET or s3://BUCKET/PREFIX [default: the shared stack's model bucket]"),
    ] = None,
    stack: Annotated[
        str | None, typer.Option(help="Shared stack whose bucket is taken [default: mli-shared]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify and look, but upload nothing.")] = False,
    profile: Profile = None,
    region: Region = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Verify an archive as `mli model verify` does, upload it, and print its address and sha256."""
    from mli.cloud.model_push import Archive, Place, is_there, key_of, model_bucket, parse_destination, upload
    from mli.cloud.names import SHARED_STACK
    from mli.errors import UsageError

    if destination is not None and stack is not None:
        raise UsageError("--stack and an address both name a bucket", remedy="say one of the two")
    bucket, prefix = parse_destination(destination) if destination is not None else ("", "")
    with tempfile.TemporaryDirectory(prefix="mli-push-") as folder:
        spec = prove(archive, Path(folder)).spec
    verified = Archive(archive, spec.sha256, archive.stat().st_size)
    aws = aws_account(profile, region)
    place = Place(bucket or model_bucket(aws, stack or SHARED_STACK), key_of(prefix, verified))
    there = is_there(aws, place, verified)
    if not there and not dry_run:
        with InstallProgress("uploading the model") as progress:
            upload(aws, place, verified, progress.update)
    if as_json:
        print(json.dumps(_json(place, verified, spec, there, dry_run), indent=2, ensure_ascii=False))
    else:
        _print(place, verified, spec, there, dry_run)


def _print(place: Place, archive: Archive, spec: ModelSpec, there: bool, dry_run: bool) -> None:
    if there:
        done = "there already, with the same sha256; nothing was uploaded"
    else:
        done = "would be uploaded" if dry_run else "uploaded"
    print(place.uri)
    print(f"  {archive.size_bytes:,} bytes, {done}")
    print(f"  sha256   {archive.sha256}")
    print("In deployment.yaml:")
    print("models:")
    print(f"  {_model_name(spec)}:")
    print(f"    uri: {place.uri}")
    print(f"    sha256: {archive.sha256}")


def _json(place: Place, archive: Archive, spec: ModelSpec, there: bool, dry_run: bool) -> dict[str, Any]:
    return {
        "uri": place.uri,
        "sha256": archive.sha256,
        "bytes": archive.size_bytes,
        "name": _model_name(spec),
        "uploaded": not there and not dry_run,
        "already_there": there,
    }


def _model_name(spec: ModelSpec) -> str:
    """The model's name, in the letters that a deployment takes for one."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", spec.name).strip("-")[:64] or "model"
