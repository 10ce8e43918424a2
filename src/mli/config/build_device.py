"""From a checked device file to frozen settings: paths absolute, secrets read, PEM files looked at."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from mli.config.paths import Problems, absolute, check_file, why_unreadable
from mli.config.pem import MAX_PEM_BYTES, PemKind, trust_anchor, wrong_with_pem
from mli.config.settings import (
    AllowSettings,
    CommandSettings,
    DeviceSettings,
    HealthSettings,
    LogSettings,
    MqttSettings,
    SpoolSettings,
    StoreSettings,
    TlsSettings,
    TrustAnchor,
)
from mli.config.uris import check_proxy

if TYPE_CHECKING:
    from mli.config.schema import DeviceFile, MqttFile, StoreFile, TlsFile
    from mli.config.yaml_places import Location

PLAIN_PORT, TLS_PORT = 1883, 8883
IMAGES = "images"
"""The one folder that deployments from the network may read where nothing else is said."""
_MAX_SECRET_BYTES = 64 * 1024
_TLS_FILES: dict[str, PemKind] = {"ca": "CA", "certificate": "certificate", "private_key": "private key"}


def build_device(file: DeviceFile, folder: Path, default_root: Path, problems: Problems) -> DeviceSettings:
    """Settings of the device; paths in the file are relative to ``folder``."""
    root = absolute(folder, file.root) if file.root else default_root.absolute()
    mqtt = None if file.mqtt is None else _mqtt(file.mqtt, file.thing, folder, root, problems)
    paths: tuple[str, ...] = (str(root / IMAGES),)
    if file.allow.paths is not None:
        paths = tuple(str(absolute(folder, path)) for path in file.allow.paths)
    return DeviceSettings(
        thing=file.thing,
        root=str(root),
        mqtt=mqtt,
        spool=SpoolSettings(
            max_bytes=file.spool.max_size,
            max_age_s=file.spool.max_age,
            drain_timeout_s=file.spool.drain_timeout,
        ),
        commands={name: CommandSettings(item.argv, item.timeout) for name, item in file.commands.items()},
        log=LogSettings(file.log.level, file.log.format, file.log.max_size, file.log.kept),
        store=_store(file.store, mqtt, folder, root, problems),
        allow=AllowSettings(paths, file.allow.hosts),
        trust=_trust(file.trust, folder, problems),
        health=HealthSettings(file.health.healthy_after, file.health.watch, file.health.deadline),
        min_isolation=file.min_isolation,
    )


def _mqtt(file: MqttFile, thing: str, folder: Path, root: Path, problems: Problems) -> MqttSettings:
    tls = None if file.tls is None else _tls(file.tls, folder, problems)
    return MqttSettings(
        host=file.host,
        port=file.port or (PLAIN_PORT if tls is None else TLS_PORT),
        client_id=file.client_id or thing,
        tls=tls,
        username=file.username,
        password=_secret(file.password, root, ("mqtt", "password"), problems),
        keepalive_s=round(file.keepalive),
        protocol=file.protocol,
    )


def _tls(file: TlsFile, folder: Path, problems: Problems) -> TlsSettings:
    paths: dict[str, str | None] = {}
    for key, kind in _TLS_FILES.items():
        paths[key] = _pem_file(getattr(file, key), kind, folder, ("mqtt", "tls", key), problems)
    if (file.certificate is None) != (file.private_key is None):
        problems.append((("mqtt", "tls"), "certificate and private_key belong together; one is missing"))
    return TlsSettings(paths["ca"], paths["certificate"], paths["private_key"], file.alpn)


def _pem_file(written: str | None, kind: PemKind, folder: Path, here: Location, problems: Problems) -> str | None:
    if written is None:
        return None
    path = absolute(folder, written)
    if check_file(path, written, here, problems):
        try:
            wrong = wrong_with_pem(path, kind)
        except OSError as error:
            wrong = why_unreadable(error)
        if wrong:
            problems.append((here, f"{written}: {wrong}"))
    return str(path)


def _store(file: StoreFile, mqtt: MqttSettings | None, folder: Path, root: Path, problems: Problems) -> StoreSettings:
    def secret(key: str) -> str | None:
        return _secret(getattr(file, key), root, ("store", key), problems)

    _check_credentials(file, mqtt, problems)
    proxy = secret("proxy")
    if proxy is not None:
        try:
            check_proxy(proxy)
        except ValueError as error:
            problems.append((("store", "proxy"), str(error)))
    return StoreSettings(
        endpoint=file.endpoint,
        region=file.region,
        credentials=file.credentials,
        profile=file.profile,
        access_key_id=secret("access_key_id"),
        secret_access_key=secret("secret_access_key"),
        role_alias=file.role_alias,
        credentials_endpoint=file.credentials_endpoint,
        ca_path=_pem_file(file.ca, "CA", folder, ("store", "ca"), problems),
        proxy=proxy,
        connect_timeout_s=file.connect_timeout,
        stall_timeout_s=file.stall_timeout,
        max_bytes=file.max_size,
    )


def _check_credentials(file: StoreFile, mqtt: MqttSettings | None, problems: Problems) -> None:
    """What belongs together must be there together, so that it fails here and not at the first download."""
    together = {
        "keys": ("access_key_id", "secret_access_key"),
        "iot": ("role_alias", "credentials_endpoint"),
        "profile": ("profile",),
    }
    for kind, keys in together.items():
        given = [key for key in keys if getattr(file, key) is not None]
        if len(given) < len(keys) and (given or file.credentials == kind):
            missing = " and ".join(f"`{key}`" for key in keys if key not in given)
            why = f"`credentials: {kind}` needs" if file.credentials == kind else f"`{given[0]}` comes with"
            problems.append((("store",), f"{why} {missing}"))
    uses_iot = file.credentials == "iot" or (file.credentials == "auto" and file.role_alias is not None)
    if uses_iot and (mqtt is None or mqtt.tls is None or mqtt.tls.certificate_path is None):
        problems.append(
            (
                ("store", "role_alias"),
                "the AWS IoT credentials provider wants the device's certificate, and `mqtt.tls` names none",
            )
        )


def _trust(keys: tuple[str, ...], folder: Path, problems: Problems) -> tuple[TrustAnchor, ...]:
    anchors: dict[str, TrustAnchor] = {}
    for index, written in enumerate(keys):
        here: Location = ("trust", index)
        text = written if "-----BEGIN" in written else _text_of(written, folder, here, problems)
        if text is None:
            continue
        try:
            anchor = trust_anchor(text)
        except ValueError as error:
            problems.append((here, str(error)))
        else:
            anchors[anchor.key_id] = anchor
    return tuple(anchors.values())


def _text_of(written: str, folder: Path, here: Location, problems: Problems) -> str | None:
    path = absolute(folder, written)
    if not check_file(path, written, here, problems):
        return None
    try:
        with path.open("rb") as file:
            return file.read(MAX_PEM_BYTES).decode("ascii", "replace")
    except OSError as error:
        problems.append((here, f"{written}: {why_unreadable(error)}"))
        return None


def _secret(value: str | None, root: Path, here: Location, problems: Problems) -> str | None:
    if value is None or not value.startswith("secret:"):
        return value
    name = value.removeprefix("secret:")
    path = root / "secrets" / name
    if not name or Path(name).name != name or name.startswith("."):
        problems.append((here, f"expected secret:NAME with a plain file name, found {value!r}"))
        return None
    try:
        if path.stat().st_size > _MAX_SECRET_BYTES:
            raise OSError(errno.EFBIG, f"larger than {_MAX_SECRET_BYTES:,} bytes")
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        why = why_unreadable(error)
    except UnicodeDecodeError:
        why = "not UTF-8 text"
    else:
        if secret:
            return secret
        why = "it is empty"
    problems.append((here, f"the secret {name!r} cannot be read from {path}: {why}"))
    return None
