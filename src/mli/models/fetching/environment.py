"""What fetching takes from the process environment: AWS's variables and those of proxies. Read once, here alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables that matter, None or empty where unset.

    Attributes:
        profile, config_file, credentials_file: of the AWS configuration files.
        container_uri: whole URL of a container credentials endpoint …
        container_relative_uri: … or its path on the host that ECS has for it.
        container_token: for its ``Authorization`` header; or ``container_token_file``, read again each time.
        proxies: URL by the scheme of the target, ``all`` for the rest.
        no_proxy: hosts that are reached without one.
    """

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    profile: str | None = None
    config_file: Path = Path("~/.aws/config")
    credentials_file: Path = Path("~/.aws/credentials")
    container_uri: str | None = None
    container_relative_uri: str | None = None
    container_token: str | None = field(default=None, repr=False)
    container_token_file: Path | None = None
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    no_proxy: tuple[str, ...] = ()


def read_environment(environ: Mapping[str, str]) -> Environment:
    """The frozen form of the variables that AWS's own tools and curl know."""

    def get(*names: str) -> str | None:
        return next((value for name in names if (value := environ.get(name, "").strip())), None)

    home = Path(get("HOME") or "/nonexistent")
    token_file = get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    no_proxy = (part.strip().lower() for part in (get("no_proxy", "NO_PROXY") or "").split(","))
    proxies = {name: get(f"{name}_proxy", f"{name.upper()}_PROXY") for name in ("http", "https", "all")}
    return Environment(
        access_key_id=get("AWS_ACCESS_KEY_ID"),
        secret_access_key=get("AWS_SECRET_ACCESS_KEY"),
        session_token=get("AWS_SESSION_TOKEN"),
        region=get("AWS_REGION", "AWS_DEFAULT_REGION"),
        profile=get("AWS_PROFILE"),
        config_file=Path(get("AWS_CONFIG_FILE") or home / ".aws" / "config"),
        credentials_file=Path(get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials"),
        container_uri=get("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        container_relative_uri=get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        container_token=get("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        container_token_file=Path(token_file) if token_file else None,
        proxies={name: url for name, url in proxies.items() if url},
        no_proxy=tuple(filter(None, no_proxy)),
    )
