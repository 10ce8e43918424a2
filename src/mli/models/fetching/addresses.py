"""A model's URI to what is asked for it, after the check that the device allows it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mli.config.settings import AllowSettings, ModelSource
from mli.errors import RefusedError
from mli.models.fetching.url import Url, parse_url, shown_uri

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,253}[A-Za-z0-9]")
REGION = re.compile(r"[a-z][a-z0-9-]{0,40}")
_FORMS = "an absolute path, file:///PATH, s3://BUCKET/KEY or https://HOST/PATH"


@dataclass(frozen=True, slots=True)
class FileAddress:
    """An archive on this device's disk, its path free of links."""

    path: Path


@dataclass(frozen=True, slots=True)
class S3Address:
    """An object of a bucket; ``region`` where the deployment says it."""

    bucket: str
    key: str
    region: str | None

    @property
    def shown(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class HttpsAddress:
    """An archive on a web server."""

    url: Url


Address = FileAddress | S3Address | HttpsAddress


def parse_address(source: ModelSource, allow: AllowSettings | None) -> Address:
    """What a model's URI points to.

    Args:
        allow: None allows every path and host: the device's owner wrote the deployment.

    Raises:
        RefusedError: it is no address of an archive, or none that this device allows.
    """
    scheme, mark, rest = source.uri.partition("://")
    if source.uri.startswith("/"):
        return FileAddress(_allowed_path(Path(source.uri), source.uri, allow))
    if mark and scheme == "file":
        return FileAddress(_allowed_path(_path_of(source.uri), source.uri, allow))
    if mark and scheme == "s3":
        bucket, _, key = rest.partition("/")
        if not _BUCKET.fullmatch(bucket) or ".." in bucket or not key or key.endswith("/"):
            raise _no_address(source.uri, "no bucket, or no key of an object in it")
        if source.region is not None and not REGION.fullmatch(source.region):
            raise _no_address(source.uri, f"the region {shown_uri(source.region)}")
        return S3Address(bucket, key, source.region)
    if mark and scheme == "https":
        try:
            url = parse_url(source.uri)
        except ValueError as error:
            raise _no_address(source.uri, str(error)) from error
        check_host(url, allow, shown_uri(source.uri))
        return HttpsAddress(url)
    if mark and scheme == "http":
        raise _no_address(source.uri, "http://, which anybody on the way could change")
    raise _no_address(source.uri, "none of these")


def check_host(url: Url, allow: AllowSettings | None, shown: str, redirected_from: str | None = None) -> None:
    """Raises RefusedError for a host that this device does not allow."""
    if allow is None or any(_matches(url.host, pattern) for pattern in allow.hosts):
        return
    on_the_way = "" if redirected_from is None else f", where {redirected_from} redirects to"
    raise RefusedError(
        f"This device does not fetch model archives from {url.host}{on_the_way}.",
        where=shown,
        expected=f"a host of allow.hosts: {', '.join(allow.hosts) or 'none is allowed'}",
        got=url.host,
        remedy=f"add {url.host} to allow.hosts in the device's own file, or put the archive where it may come from",
    )


def archive_name(source: ModelSource) -> str:
    """The archive's base name, safe as a file's name."""
    path = source.uri.partition("://")[2] or source.uri
    if not source.uri.startswith("s3://"):
        path = path.partition("?")[0].partition("#")[0]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", unquote(path.rpartition("/")[2])).lstrip(".")[-100:]
    return name or "model"


def _matches(host: str, pattern: str) -> bool:
    host, pattern = host.lower(), pattern.lower().rstrip(".")
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return host == pattern


def _path_of(uri: str) -> Path:
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not path.startswith("/"):
        raise _no_address(uri, "a file:// address with a host, a query or a relative path")
    return Path(path)


def _allowed_path(path: Path, uri: str, allow: AllowSettings | None) -> Path:
    """Links are followed first: what counts is where the bytes lie."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise _no_address(uri, f"a path that cannot be followed: {error}") from error
    if allow is None:
        return real
    for folder in allow.paths:
        if real.is_relative_to(Path(folder).resolve()):
            return real
    raise RefusedError(
        "This device does not take model archives from that folder.",
        where=shown_uri(uri),
        expected=f"a file below a folder of allow.paths: {', '.join(allow.paths) or 'none is allowed'}",
        got=str(real),
        remedy="put the archive below an allowed folder, or add its folder to allow.paths in the device's own file",
    )


def _no_address(uri: str, found: str) -> RefusedError:
    return RefusedError(
        "This is no address of a model archive.",
        where=shown_uri(uri),
        expected=_FORMS,
        got=found,
        remedy="correct the model's uri in the deployment",
    )
