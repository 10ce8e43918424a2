"""``mli model push``: a verified archive goes into a bucket, from which devices fetch it."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.aws_account import Profile, Region, aws_account, need_cloud
from mli.cli.model import prove
from mli.cli.options import AsJson
from mli.cli.progress import InstallProgress
from mli.cli.to_type import tells_what_to_type

if TYPE_CHECKING:
    from mli.cloud.model_push import Archive, Place
    from mli.cloud.model_store import ModelStore
    from mli.types import ModelSpec


@tells_what_to_type
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
    endpoint: Annotated[
        str | None,
        typer.Option(help="URL of a store of your own that speaks S3, as store.endpoint of device.yaml"),
    ] = None,
    profile: Profile = None,
    region: Region = None,
    as_json: AsJson = False,
) -> None:
    """Verify an archive as `mli model verify` does, upload it, and print its address and sha256."""
    need_cloud()
    from mli.cloud.model_push import Archive, Place, is_there, key_of, parse_destination, upload
    from mli.errors import UsageError

    if destination is not None and stack is not None:
        raise UsageError("--stack and an address both name a bucket", remedy="say one of the two")
    if endpoint is not None and destination is None:
        raise UsageError("a store of your own has no stack that names a bucket", remedy="say s3://BUCKET as well")
    bucket, prefix = parse_destination(destination) if destination is not None else ("", "")
    with tempfile.TemporaryDirectory(prefix="mli-push-") as folder:
        spec = prove(archive, Path(folder)).spec
    verified = Archive(archive, spec.sha256, archive.stat().st_size)
    store, bucket = _store(bucket, endpoint, stack, profile, region)
    place = Place(bucket, key_of(prefix, verified))
    there = is_there(store, place, verified)
    if not there and not dry_run:
        with InstallProgress("uploading the model") as progress:
            upload(store, place, verified, progress.update)
    if as_json:
        print(json.dumps(_json(store, place, verified, spec, there, dry_run), indent=2, ensure_ascii=False))
    else:
        _print(place, verified, spec, there, dry_run)
        _print_store(store)


def _store(
    bucket: str, endpoint: str | None, stack: str | None, profile: str | None, region: str | None
) -> tuple[ModelStore, str]:
    """Where the archive goes, and the bucket there, which can be used."""
    from mli.cloud.model_push import model_bucket
    from mli.cloud.model_store import check_own_bucket, own_store, store_of
    from mli.cloud.names import SHARED_STACK
    from mli.cloud.stack_model import check_bucket

    own = own_store(profile, region, endpoint and _checked(endpoint)) if bucket else None
    if own is not None:
        check_own_bucket(own, bucket)
        return own, bucket
    aws = aws_account(profile, region)
    bucket = bucket or model_bucket(aws, stack or SHARED_STACK)
    check_bucket(aws, bucket)
    return store_of(aws), bucket


def _checked(endpoint: str) -> str:
    from mli.config.uris import check_endpoint
    from mli.errors import UsageError

    try:
        return check_endpoint(endpoint)
    except ValueError as error:
        raise UsageError(f"--endpoint: {error}") from error


def _print_store(store: ModelStore) -> None:
    if store.endpoint is None:
        return
    print("In device.yaml, with access keys that may read there:")
    print("store:")
    print(f"  endpoint: {store.endpoint}")
    print("(This store is not AWS: no account was asked for, nor whose the bucket is.)")


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


def _json(
    store: ModelStore, place: Place, archive: Archive, spec: ModelSpec, there: bool, dry_run: bool
) -> dict[str, Any]:
    return {
        "uri": place.uri,
        "sha256": archive.sha256,
        "bytes": archive.size_bytes,
        "name": _model_name(spec),
        "uploaded": not there and not dry_run,
        "already_there": there,
        "endpoint": store.endpoint,
    }


def _model_name(spec: ModelSpec) -> str:
    """The model's name, in the letters that a deployment takes for one."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", spec.name).strip("-")[:64] or "model"
