"""Writes ``greengrass-setup.zip``: a device's folder in the accelerator's form, complete and checked.

It holds ``config/config.json`` and ``certs/``, and ``device.yaml`` where somebody is trusted, for which the
accelerator's file has no words. Whoever unzips it edits nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import zipfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mli.config.accelerator import STORE_KEYS
from mli.core.aws_endpoint import aws_host
from mli.core.bundle_request import BundleRequest, Found, Names, check_names
from mli.core.certificates import CertificateFacts, check_authorities, check_identity, key_text, read_private_key
from mli.errors import RetryError, UsageError

CA_FILE, CERTIFICATE_FILE, KEY_FILE = "root.ca.pem", "thing.cert.pem", "thing.private.key"
_HOME = "file:///greengrass/certs"
"""Where the accelerator's certificates lay; what is absent there is looked up under the root."""
_KEEPALIVE_S = 60
"""The accelerator said 600: a broker then takes a quarter of an hour to notice that a device is gone."""
_FOLDER, _FILE, _PRIVATE = 0o040755, 0o100644, 0o100600


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was written.

    Attributes:
        certificate: the device's own.
        key: kind and size; None where it is on the device already.
        cautions: what works but somebody should know.
    """

    path: Path
    size_bytes: int
    thing: str
    endpoint: str
    port: int
    files: tuple[str, ...]
    certificate: CertificateFacts
    key: str | None
    authorities: tuple[CertificateFacts, ...]
    trusted: int
    cautions: tuple[str, ...]


def write_bundle(
    request: BundleRequest, out: Path, *, overwrite: bool = False, now: datetime | None = None
) -> Bundle:
    """Check everything, then write the folder as a zip file that only its owner can read.

    Raises:
        UsageError: whatever is wrong with the request and its files, all at once; nothing was written.
        RetryError: the disk does not take it.
    """
    now = datetime.now(UTC) if now is None else now
    request = replace(request, endpoint=request.endpoint.strip().rstrip(".").lower())
    found = Found()
    names = check_names(request, found)
    identity = check_identity(request.certificate, request.key, now)
    authorities = check_authorities(request.authorities, now)
    found.problems += [*identity.problems, *authorities.problems]
    found.cautions += [*identity.cautions, *authorities.cautions]
    _check_target(out, overwrite, found)
    found.raise_all()

    members = _members(request, names)
    _write(out, members)
    return Bundle(
        path=out,
        size_bytes=out.stat().st_size,
        thing=names.thing,
        endpoint=request.endpoint,
        port=request.port,
        files=tuple(name for name, _, _ in members if not name.endswith("/")),
        certificate=identity.facts[0],
        key=None if request.key is None else key_text(read_private_key(request.key)),
        authorities=authorities.facts,
        trusted=len(names.trusted),
        cautions=tuple(found.cautions),
    )


def _check_target(out: Path, overwrite: bool, found: Found) -> None:
    if out.suffix.lower() != ".zip":
        found.problems.append(UsageError("the folder is written as a zip file", where=str(out), expected="X.zip"))
    elif not out.parent.is_dir() or not os.access(out.parent, os.W_OK | os.X_OK):
        found.problems.append(
            UsageError("the file cannot be written there", where=str(out.parent), expected="a writable folder")
        )
    elif os.path.lexists(out) and not overwrite:
        found.problems.append(
            UsageError("the file is there already", where=str(out), remedy="remove it, or say --force")
        )


def _members(request: BundleRequest, names: Names) -> list[tuple[str, int, bytes]]:
    """Name, mode and bytes of everything in the zip file."""
    files = [
        ("config/", _FOLDER, b""),
        ("config/config.json", _FILE, _json(_config(request, names.arn))),
        ("certs/", _FOLDER, b""),
        (f"certs/{CA_FILE}", _FILE, request.authorities.read_bytes()),
        (f"certs/{CERTIFICATE_FILE}", _FILE, request.certificate.read_bytes()),
    ]
    if request.key is not None:
        files.append((f"certs/{KEY_FILE}", _PRIVATE, request.key.read_bytes()))
    if not names.trusted:
        return files
    return [*files, ("device.yaml", _FILE, _yaml({"trust": list(names.trusted)}))]


def _config(request: BundleRequest, arn: str) -> dict[str, Any]:
    """``config/config.json``, key for key as the accelerator's, and how the device gets keys for its buckets."""
    private_key = {"privateKeyPath": f"{_HOME}/{KEY_FILE}"}
    core_thing: dict[str, Any] = {
        "caPath": CA_FILE,
        "certPath": CERTIFICATE_FILE,
        "keyPath": KEY_FILE,
        "thingArn": arn,
        "iotHost": request.endpoint,
        "iotMqttPort": request.port,
        "keepAlive": _KEEPALIVE_S,
    }
    aws = aws_host(request.endpoint)
    if aws is not None:
        core_thing["ggHost"] = aws.greengrass
    store = {"role_alias": request.role_alias, "credentials_endpoint": request.credentials_endpoint}
    for key, value in {**store, "region": request.region}.items():
        if value is not None:
            core_thing[STORE_KEYS[key]] = value
    return {
        "coreThing": core_thing,
        "runtime": {"cgroup": {"useSystemd": "yes"}},
        "managedRespawn": False,
        "crypto": {
            "principals": {
                "SecretsManager": private_key,
                "IoTCertificate": {**private_key, "certificatePath": f"{_HOME}/{CERTIFICATE_FILE}"},
            },
            "caPath": f"{_HOME}/{CA_FILE}",
        },
    }


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _yaml(value: dict[str, Any]) -> bytes:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False)
    return text.encode()


def _write(out: Path, members: list[tuple[str, int, bytes]]) -> None:
    """Write and rename, so that no half of a key ever lies under the final name."""
    temporary = out.with_name(f".{out.name}-{secrets.token_hex(8)}")
    moment = time.localtime()[:6]
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, mode, data in members:
                    member = zipfile.ZipInfo(name, moment)
                    member.create_system = 3  # Unix: what unpacks it keeps the modes
                    member.external_attr = mode << 16 | (0x10 if name.endswith("/") else 0)
                    member.compress_type = zipfile.ZIP_STORED if name.endswith("/") else zipfile.ZIP_DEFLATED
                    archive.writestr(member, data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(out)
    except OSError as error:
        raise RetryError(
            "the file cannot be written",
            where=str(out),
            got=error.strerror or str(error),
            remedy="check the disk and its free space; nothing of it was kept",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
