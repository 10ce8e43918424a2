"""``config/config.json``, as AWS IoT Greengrass V1 and the accelerator wrote it, to the keys of ``device.yaml``.

Read is what connects the device: the thing, the endpoint, its port, the keep-alive and the three PEM files; and how
its certificate gets keys for the bucket of its model, of which the accelerator never spoke. All other keys
(``ggHost``, ``runtime``, ``managedRespawn``, …) meant the old core and are left alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mli.config.fields import THING
from mli.config.paths import Problems, why_unreadable
from mli.config.yaml_places import Location, read_bounded
from mli.errors import UsageError

CONFIG = Path("config") / "config.json"
ALPN = "x-amzn-mqtt-ca"
"""Names MQTT on port 443, which AWS IoT Core shares with HTTPS."""
ALPN_PORT, _DEFAULT_PORT = 443, 8883
_GREENGRASS = Path("/greengrass")
_CERTIFICATE = "IoTCertificate"
_THING_ARN = re.compile(r"arn:[^:]+:iot:[^:]*:[^:]*:thing/(.+)")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_FILES = {
    "ca": (("crypto", "caPath"), "caPath"),
    "certificate": (("crypto", "principals", _CERTIFICATE, "certificatePath"), "certPath"),
    "private_key": (("crypto", "principals", _CERTIFICATE, "privateKeyPath"), "keyPath"),
}
"""For each file of ``mqtt.tls`` its place today, and its key in ``coreThing`` before 2018."""
STORE_KEYS = {"role_alias": "iotRoleAlias", "credentials_endpoint": "iotCredEndpoint", "region": "awsRegion"}
"""For each key of ``store`` its name in ``coreThing``; the names are Greengrass V2's own."""
PROVIDER_KEYS = ("role_alias", "credentials_endpoint")
"""Of AWS IoT's credentials provider, which knows the device by its certificate."""


@dataclass(slots=True)
class AcceleratorConfig:
    """The device's part of a ``config.json``.

    Attributes:
        name: of the file, for errors.
        section: the keys of ``device.yaml`` that it stands for.
        origins: where in the file each of them stands, as a JSON path.
        problems: what is wrong with it, at the keys of ``device.yaml``.
    """

    name: str
    section: dict[str, Any] = field(default_factory=lambda: {"mqtt": {"tls": {}}})
    origins: dict[Location, str] = field(default_factory=dict)
    problems: Problems = field(default_factory=list)


def read_accelerator(root: Path) -> AcceleratorConfig | None:
    """Read ``config/config.json`` of a device's folder; None where there is none.

    Raises:
        UsageError: it cannot be read, or is no configuration of Greengrass V1.
    """
    path = root / CONFIG
    try:
        if not path.exists():
            return None
    except OSError as error:
        raise UsageError(f"the file cannot be read: {why_unreadable(error)}", where=str(path)) from error
    try:
        value = json.loads(read_bounded(path).decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UsageError("the file is not valid JSON", where=f"{path}:{error.lineno}", got=error.msg) from error
    except (ValueError, RecursionError) as error:
        raise UsageError("the file is not valid JSON", where=str(path), got=str(error)) from error
    if not isinstance(value, dict) or not isinstance(value.get("coreThing"), dict):
        raise UsageError(
            "this is no config.json of Greengrass V1",
            where=str(path),
            expected="an object `coreThing` with thingArn and iotHost",
        )
    config = AcceleratorConfig(str(path))
    _thing(value, config)
    _broker(value, config)
    _store(value["coreThing"], config)
    for key, (place, old) in _FILES.items():
        _file(value, key, place, old, root, config)
    return config


def _thing(value: dict[str, Any], config: AcceleratorConfig) -> None:
    here: Location = ("thing",)
    config.origins[here] = "coreThing.thingArn"
    arn = value["coreThing"].get("thingArn")
    match = _THING_ARN.fullmatch(arn) if isinstance(arn, str) else None
    if match is None or re.search(THING, match[1]) is None:
        config.problems.append((here, f"expected arn:aws:iot:REGION:ACCOUNT:thing/NAME, {_found(arn)}"))
    else:
        config.section["thing"] = match[1]


def _broker(value: dict[str, Any], config: AcceleratorConfig) -> None:
    core, mqtt = value["coreThing"], config.section["mqtt"]
    for key, name in (("host", "iotHost"), ("port", "iotMqttPort"), ("keepalive", "keepAlive")):
        config.origins[("mqtt", key)] = f"coreThing.{name}"
    host = core.get("iotHost")
    if isinstance(host, str) and _HOST.fullmatch(host):
        mqtt["host"] = host
    else:
        config.problems.append(
            (("mqtt", "host"), f"expected the endpoint, PREFIX-ats.iot.REGION.amazonaws.com, {_found(host)}")
        )
    port = core.get("iotMqttPort", _DEFAULT_PORT)
    if isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65535:
        mqtt["port"] = port
    else:
        config.problems.append((("mqtt", "port"), f"expected a port, such as 443 or 8883, {_found(port)}"))
    if "keepAlive" in core:
        mqtt["keepalive"] = core["keepAlive"]


def _store(core: dict[str, Any], config: AcceleratorConfig) -> None:
    """What is no text is told by the same check as in ``device.yaml``."""
    said = {key: core[name] for key, name in STORE_KEYS.items() if name in core}
    if not said:
        return
    config.section["store"] = said
    for key in said:
        config.origins[("store", key)] = f"coreThing.{STORE_KEYS[key]}"
    alone = [key for key in PROVIDER_KEYS if key in said]
    if len(alone) == 1:  # what is told of the two together stands where the one stands
        config.origins[("store",)] = f"coreThing.{STORE_KEYS[alone[0]]}"


def _file(
    value: dict[str, Any], key: str, place: tuple[str, ...], old: str, root: Path, config: AcceleratorConfig
) -> None:
    written: Any = value
    for part in place:
        written = written.get(part) if isinstance(written, dict) else None
    here: Location = ("mqtt", "tls", key)
    config.origins[here] = ".".join(place)
    folder = root
    if written is None and old in value["coreThing"]:
        written, folder = value["coreThing"][old], root / "certs"
        config.origins[here] = f"coreThing.{old}"
    if not isinstance(written, str) or not written:
        config.problems.append((here, f"expected a file:// URI of a PEM file, {_found(written)}"))
        return
    if written.startswith("pkcs11:"):
        config.problems.append(
            (here, "keys in a hardware module (pkcs11:) cannot be used; expected a file:// URI of a PEM file")
        )
        return
    path = Path(unquote(written.removeprefix("file://")) if written.startswith("file://") else written)
    path = _below_root(path, root) if path.is_absolute() else folder / path
    if _is_there(path) is False:
        config.problems.append(
            (here, f"{path}: no such file; unzip greengrass-setup.zip in {root} once more, or correct the path")
        )
        return
    config.section["mqtt"]["tls"][key] = str(path)


def _below_root(path: Path, root: Path) -> Path:
    """A path that the accelerator put below /greengrass, where this device's folder is another one."""
    if not path.is_relative_to(_GREENGRASS) or _is_there(path):
        return path
    return root / path.relative_to(_GREENGRASS)


def _is_there(path: Path) -> bool | None:
    """None where one may not look."""
    try:
        return path.exists()
    except OSError:
        return None


def _found(value: object) -> str:
    if value is None:
        return "found nothing"
    if isinstance(value, (dict, list)):
        return "found something else"
    text = repr(value)
    return f"found {text if len(text) <= 80 else text[:77] + '...'}"
