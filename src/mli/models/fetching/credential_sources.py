"""Where S3 credentials come from: settings, environment, AWS's files, a container endpoint, AWS IoT, or nowhere."""

from __future__ import annotations

import configparser
import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mli.config.settings import StoreSettings
from mli.errors import MliError, RetryError, StopError
from mli.models.fetching.credentials import Credentials, CredentialSource
from mli.models.fetching.environment import Environment
from mli.models.fetching.exchange import Answer
from mli.models.fetching.troubles import TransferError
from mli.models.fetching.url import Url, parse_url
from mli.models.fetching.watch import Watch

Ask = Callable[[Url, dict[str, str], Watch], Answer]
"""GET of a URL with headers, on the line that is right for it."""

_CONTAINER_HOST = "169.254.170.2"
_CONTAINER_HOSTS = frozenset({_CONTAINER_HOST, "169.254.170.23", "fd00:ec2::23", "localhost"})


@dataclass(frozen=True, slots=True)
class FixedSource:
    """Keys that are known already; ``credentials`` None is anonymous."""

    told: str
    credentials: Credentials | None

    def get(self, _watch: Watch) -> Credentials | None:
        return self.credentials


@dataclass(frozen=True, slots=True)
class ProfileSource:
    """A profile with keys of the AWS configuration files; read at each use, as other tools renew them."""

    profile: str
    environment: Environment

    @property
    def told(self) -> str:
        return f"profile {self.profile} of {self.environment.credentials_file}"

    def get(self, _watch: Watch) -> Credentials:
        values = read_profile(self.environment, self.profile)
        key, secret = values.get("aws_access_key_id"), values.get("aws_secret_access_key")
        if key and secret:
            return Credentials(key, secret, values.get("aws_session_token") or None)
        other = next((name for name in values if name.startswith(("sso_", "role_", "credential_", "web_"))), None)
        raise StopError(
            f"The AWS profile {self.profile} gives no keys.",
            where=f"{self.environment.credentials_file}, {self.environment.config_file}",
            expected="aws_access_key_id and aws_secret_access_key",
            got=f"{other}, which mli does not use" if other else ("no such profile" if not values else "no keys"),
            remedy="name a profile with keys in store.profile, or choose other credentials in store.credentials",
        )


@dataclass(frozen=True, slots=True)
class ContainerSource:
    """The endpoint of ECS, EKS or Greengrass's TokenExchangeService."""

    url: Url
    token: str | None
    token_file: Path | None
    ask: Ask

    @property
    def told(self) -> str:
        return f"container credentials of {self.url.shown}"

    def get(self, watch: Watch) -> Credentials:
        token = self.token
        if self.token_file is not None:
            try:
                token = self.token_file.read_text().strip()
            except OSError as error:
                raise RetryError(
                    "The token for the container credentials cannot be read.",
                    where=str(self.token_file),
                    got=error.strerror,
                    remedy="check AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE and the file's permissions",
                ) from error
        headers = {} if token is None else {"authorization": token}
        return _ask_for(self.ask, self.url, headers, watch, self.told, _container_credentials)


@dataclass(frozen=True, slots=True)
class IotSource:
    """The credentials provider of AWS IoT: the device's certificate against keys of a role."""

    url: Url
    thing: str
    role_alias: str
    ask: Ask

    @property
    def told(self) -> str:
        return f"AWS IoT credentials provider {self.url.host}, role alias {self.role_alias}"

    def get(self, watch: Watch) -> Credentials:
        headers = {"x-amzn-iot-thingname": self.thing}
        return _ask_for(self.ask, self.url, headers, watch, self.told, _iot_credentials)


def choose(store: StoreSettings, environment: Environment, thing: str, ask: Ask, ask_iot: Ask) -> CredentialSource:
    """The source that the settings name, or with ``auto`` the first for which there are settings.

    Raises:
        StopError: the named source lacks a setting.
    """
    makers: dict[str, Callable[[], CredentialSource | None]] = {
        "keys": lambda: _keys(store),
        "environment": lambda: _environment(environment),
        "profile": lambda: _profile(store, environment, needed=store.credentials == "profile"),
        "container": lambda: _container(environment, ask),
        "iot": lambda: _iot(store, thing, ask_iot),
        "anonymous": lambda: FixedSource("no credentials (anonymous)", None),
    }
    if store.credentials != "auto":
        source = makers[store.credentials]()
        if source is None:
            raise _missing(store.credentials)
        return source
    return next(source for make in makers.values() if (source := make()) is not None)


def read_profile(environment: Environment, profile: str) -> dict[str, str]:
    """A profile of AWS's two files together, the credentials file first; empty where there is none."""
    found: dict[str, str] = {}
    for path, section in (
        (environment.config_file, profile if profile == "default" else f"profile {profile}"),
        (environment.credentials_file, profile),
    ):
        parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(" #", " ;"))
        try:
            parser.read_string(path.read_text(), str(path))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            raise StopError(
                "A configuration file of AWS cannot be read.",
                where=str(path),
                got=error.strerror if isinstance(error, OSError) else type(error).__name__,
                remedy="correct it, or choose other credentials in store.credentials",
            ) from error
        if parser.has_section(section):
            found.update(parser.items(section))
    return found


def _keys(store: StoreSettings) -> CredentialSource | None:
    if not store.access_key_id or not store.secret_access_key:
        return None
    keys = Credentials(store.access_key_id, store.secret_access_key)
    return FixedSource(f"keys of the device's settings ({store.access_key_id})", keys)


def _environment(environment: Environment) -> CredentialSource | None:
    key, secret = environment.access_key_id, environment.secret_access_key
    if not key or not secret:
        return None
    return FixedSource(f"keys of the environment ({key})", Credentials(key, secret, environment.session_token))


def _profile(store: StoreSettings, environment: Environment, *, needed: bool) -> CredentialSource | None:
    name = store.profile or environment.profile
    if name or needed:
        return ProfileSource(name or "default", environment)
    if read_profile(environment, "default").get("aws_access_key_id"):
        return ProfileSource("default", environment)
    return None


def _container(environment: Environment, ask: Ask) -> CredentialSource | None:
    text = environment.container_uri
    if environment.container_relative_uri is not None:
        text = f"http://{_CONTAINER_HOST}{environment.container_relative_uri}"
    if text is None:
        return None
    try:
        url = parse_url(text)
    except ValueError as error:
        raise _bad_container(str(error)) from error
    if url.scheme == "http" and not _is_near(url.host):
        raise _bad_container(f"http to {url.host}, where others could read the keys")
    return ContainerSource(url, environment.container_token, environment.container_token_file, ask)


def _is_near(host: str) -> bool:
    """Plain http is for this machine and the addresses that AWS answers on it."""
    try:
        return host in _CONTAINER_HOSTS or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _iot(store: StoreSettings, thing: str, ask: Ask) -> CredentialSource | None:
    if not store.role_alias or not store.credentials_endpoint:
        return None
    endpoint = store.credentials_endpoint.removeprefix("https://").rstrip("/")
    try:
        url = parse_url(f"https://{endpoint}/role-aliases/{store.role_alias}/credentials")
    except ValueError as error:
        raise StopError(
            "The credentials endpoint of AWS IoT cannot be used.",
            where="store.credentials_endpoint of the device",
            expected="<prefix>.credentials.iot.<region>.amazonaws.com",
            got=str(error),
            remedy="take it from: aws iot describe-endpoint --endpoint-type iot:CredentialProvider",
        ) from error
    return IotSource(url, thing, store.role_alias, ask)


def _ask_for(
    ask: Ask,
    url: Url,
    headers: dict[str, str],
    watch: Watch,
    told: str,
    parse: Callable[[dict[str, Any]], Credentials],
) -> Credentials:
    try:
        with ask(url, headers, watch) as answer:
            status, text = answer.status, answer.text()
    except TransferError as error:
        error.what = f"The credentials for the model store cannot be fetched: {error.what}"
        raise
    if status != 200:
        raise _refused(status, text, told, url)
    try:
        return parse(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TransferError(
            "The answer with the credentials for the model store cannot be understood.",
            where=told,
            expected="JSON with a key, a secret, a token and the time they expire",
            got=f"{len(text)} characters of something else",
            remedy="check that the endpoint is the right one",
        ) from error


def _container_credentials(found: dict[str, Any]) -> Credentials:
    return _made(found["AccessKeyId"], found["SecretAccessKey"], found.get("Token"), found.get("Expiration"))


def _iot_credentials(found: dict[str, Any]) -> Credentials:
    keys = found["credentials"]
    return _made(keys["accessKeyId"], keys["secretAccessKey"], keys["sessionToken"], keys["expiration"])


def _made(key: Any, secret: Any, token: Any, expiration: Any) -> Credentials:
    if not all(isinstance(value, str) and value.isprintable() for value in (key, secret, token or "")):
        raise ValueError("not text")
    expires = None
    if expiration:
        expires = datetime.fromisoformat(expiration)
        expires = expires if expires.tzinfo else expires.replace(tzinfo=UTC)
    return Credentials(key, secret, token or None, expires)


def _refused(status: int, text: str, told: str, url: Url) -> MliError:
    """What the endpoint says is shown: its errors carry no secret."""
    try:
        said = str(json.loads(text).get("message", ""))[:200]
    except (ValueError, AttributeError):
        said = ""
    remedy = {
        400: "check the role alias and the thing's name",
        401: "check AWS_CONTAINER_AUTHORIZATION_TOKEN and its file",
        403: "allow iot:AssumeRoleWithCertificate on the role alias in the certificate's policy, and let the role "
        "trust credentials.iot.amazonaws.com",
        404: "check store.role_alias and store.credentials_endpoint of the device",
    }.get(status, "it may work later")
    if not url.target.startswith("/role-aliases/") and status in (403, 404):
        remedy = "check the container's role, and the AWS_CONTAINER_… variables"
    kind = StopError if 400 <= status < 500 and status != 429 else TransferError
    return kind(
        "The credentials for the model store were refused.",
        where=told,
        expected="temporary keys",
        got=f"HTTP status {status}" + (f": {said}" if said else ""),
        remedy=remedy,
    )


def _missing(kind: str) -> StopError:
    needs = {
        "keys": "store.access_key_id and store.secret_access_key",
        "environment": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "container": "AWS_CONTAINER_CREDENTIALS_FULL_URI or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "iot": "store.role_alias and store.credentials_endpoint",
    }
    return StopError(
        f"There are no credentials of the kind that store.credentials names: {kind}.",
        where="the device's settings and the environment of its core",
        expected=needs[kind],
        got="nothing",
        remedy=f"set them, or choose others: store.credentials is {kind}",
    )


def _bad_container(found: str) -> StopError:
    return StopError(
        "The endpoint for container credentials cannot be used.",
        where="AWS_CONTAINER_CREDENTIALS_FULL_URI",
        expected="https, or http on this machine",
        got=found,
        remedy="correct the variable, or choose other credentials in store.credentials",
    )
