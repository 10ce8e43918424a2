"""The model that a stack names: a bucket of this region and account, an object that is there and is an archive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.troubles import asking, code_of
from mli.errors import RefusedError, UsageError
from mli.nearest import nearest

_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)")
_CONTENT_KEY = re.compile(r"(?:^|/)models/(?P<sha256>[0-9a-f]{64})/[^/]+$")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"
_NEAR_KEYS = 200

ShaFrom = Literal["said", "upload", "key", "stack", "nobody"]


@dataclass(frozen=True, slots=True)
class Model:
    """A model archive in a bucket.

    Attributes:
        sha256: of the archive, lower hexadecimal; empty where nobody said it: the device pins what it gets first.
        sha256_from: who said it: the caller, the upload's metadata, the content-addressed key, or an earlier deploy.
    """

    uri: str
    bucket: str
    key: str
    size_bytes: int
    sha256: str
    sha256_from: ShaFrom


def find_model(aws: Aws, uri: str, sha256: str | None = None) -> Model:
    """Look at the model without downloading it: only its first four bytes are read.

    Args:
        sha256: what the caller says; 64 hexadecimal digits.

    Raises:
        UsageError: no ``s3://BUCKET/KEY``, or no sha256.
        RefusedError: the bucket is of another region or owner, the object is missing, or no archive, or not that one.
        MliError: S3 did not answer, or a right is missing.
    """
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise UsageError(
            "this names no object in S3",
            expected="s3://BUCKET/KEY with the name of a bucket: lower case letters, digits, '-' and '.'",
            got=uri,
            remedy="mli model push FILE uploads a model, and prints its address",
        )
    said = sha256.lower() if sha256 else None
    if said is not None and not _SHA256.fullmatch(said):
        raise UsageError("--sha256 is no sha256", expected="64 hexadecimal digits", got=sha256)
    bucket, key = parts["bucket"], parts["key"]
    client = aws.client("s3")
    check_bucket(aws, bucket, client)
    with asking(f"for the model {uri}", aws.identity):
        head = _head(client, bucket, key)
        _must_be_archive(client, bucket, key, int(head["ContentLength"]), head["ETag"])
    known, source = _sha256(said, head, key, uri)
    return Model(uri, bucket, key, int(head["ContentLength"]), known, source)


def check_bucket(aws: Aws, bucket: str, client: Any = None) -> None:
    """Refuse a bucket that is not there, of another owner, or of another region (FAQ 1).

    Raises:
        RefusedError: as said.
        MliError: S3 did not answer, or a right is missing.
    """
    client = client or aws.client("s3")
    where = f"s3://{bucket}"
    with asking(f"for the bucket {bucket}", aws.identity):
        try:
            told = client.head_bucket(Bucket=bucket, ExpectedBucketOwner=aws.account)
        except ClientError as error:
            region = _region_in(error) or _asked_region(client, bucket, error)
            if region and region != aws.region:
                raise _other_region(where, region, aws.region) from error
            if _is(error, "404", "NoSuchBucket"):
                raise RefusedError(
                    f"There is no bucket {bucket}.",
                    where=where,
                    remedy="check its name (aws s3 ls), or mli model push FILE s3://BUCKET",
                ) from error
            if _is(error, "403", "AccessDenied") and _of_another(client, bucket):
                raise RefusedError(
                    f"The bucket {bucket} is of another account.",
                    where=where,
                    expected=f"a bucket of account {aws.account}",
                    remedy="copy the model into a bucket of this account: mli model push FILE s3://BUCKET",
                ) from error
            raise
    region = told.get("BucketRegion") or _header(told)
    if region and region != aws.region:
        raise _other_region(where, region, aws.region)


def _other_region(where: str, found: str, here: str) -> RefusedError:
    return RefusedError(
        f"The bucket is in {found}, the devices' stack in {here}.",
        where=where,
        expected=f"a bucket in {here}",
        got=f"a bucket in {found}",
        remedy=f"mli model push FILE s3://BUCKET with a bucket in {here}, "
        f"or the stack in the bucket's region: --region {found}",
    )


def _head(client: Any, bucket: str, key: str) -> Any:
    try:
        return client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if not _is(error, "404", "NoSuchKey", "NotFound"):
            raise
        raise RefusedError(
            "The model is not in its bucket.",
            where=f"s3://{bucket}/{key}",
            got=f"no object {key!r}{_near(client, bucket, key)}",
            remedy=f"aws s3 ls s3://{bucket}/ --recursive shows what is there; mli model push FILE s3://{bucket}",
        ) from error


def _near(client: Any, bucket: str, key: str) -> str:
    try:
        told = client.list_objects_v2(Bucket=bucket, MaxKeys=_NEAR_KEYS)
    except ClientError:
        return ""
    return nearest(key, [item["Key"] for item in told.get("Contents", ())])


def _must_be_archive(client: Any, bucket: str, key: str, size_bytes: int, etag: str) -> None:
    where = f"s3://{bucket}/{key}"
    start = b""
    if size_bytes:
        start = client.get_object(Bucket=bucket, Key=key, Range="bytes=0-3", IfMatch=etag)["Body"].read()
    if start.startswith((_ZIP, _GZIP)):
        return
    raise RefusedError(
        "The model is no archive.",
        where=where,
        expected="a .zip or .tar.gz with the model's files",
        got=f"{_looks_like(start)}, {size_bytes:,} bytes",
        remedy="mli model pack MODEL LABELS -o FILE.zip makes one; mli model push uploads it",
    )


def _looks_like(start: bytes) -> str:
    if not start:
        return "an empty object"
    if start[:2] == b"PK":
        return "a zip without members, or one in several parts"
    if start[:1] in b"<{[":
        return f"text that begins with {start.decode('ascii', 'replace')!r}"
    return f"bytes that begin with {start.hex(' ')}"


def _sha256(said: str | None, head: Any, key: str, uri: str) -> tuple[str, ShaFrom]:
    uploaded = str(head.get("Metadata", {}).get("sha256", "")).lower()
    named = _CONTENT_KEY.search(key)
    known: list[tuple[str, ShaFrom]] = []
    if said:
        known.append((said, "said"))
    if _SHA256.fullmatch(uploaded):
        known.append((uploaded, "upload"))
    if named:
        known.append((named["sha256"], "key"))
    if not known:
        return "", "nobody"
    if len({digest for digest, _ in known}) > 1:
        words = {"said": "--sha256", "upload": "the upload", "key": "the key"}
        raise RefusedError(
            "It is not clear which archive is meant: the digests differ.",
            where=uri,
            got="; ".join(f"{words[source]} says {digest}" for digest, source in known),
            remedy="mli model push FILE uploads it under its own digest and prints it",
        )
    return known[0]


def _of_another(client: Any, bucket: str) -> bool:
    """Without the question for its owner the bucket answers."""
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError:
        return False
    return True


def _region_in(error: ClientError) -> str:
    """S3 names a bucket's region also when it refuses; a wrong signature's answer names the right one."""
    return str(error.response.get("Error", {}).get("Region") or _header(error.response))


def _asked_region(client: Any, bucket: str, error: ClientError) -> str:
    """A refusal without a word can be a wrong region's: a HEAD has no text that would say so."""
    if not _is(error, "301", "400"):
        return ""
    try:
        told = client.get_bucket_location(Bucket=bucket)
    except ClientError as second:
        return _region_in(second)
    return str(told.get("LocationConstraint") or "us-east-1").replace("EU", "eu-west-1")


def _header(told: Any) -> str:
    return str(told.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region", ""))


def _is(error: ClientError, *codes: str) -> bool:
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    return code_of(error) in codes or status in codes
