"""A device's own folder, as Greengrass V1 left it, to a ``Setup``. Nothing in it is changed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mli.cloud.migration.bounded_text import parse, read_text
from mli.cloud.migration.definitions import (
    Part,
    read_connectors,
    read_cores,
    read_devices,
    read_function,
    read_functions,
    read_loggers,
    read_resources,
    read_subscriptions,
)
from mli.cloud.migration.setup import Core, OnDevice, Setup
from mli.config.accelerator import CONFIG, read_accelerator
from mli.config.device import read_device
from mli.errors import UsageError

GROUP = Path("ggc") / "deployment" / "group" / "group.json"
LAMBDAS, MODELS = Path("ggc") / "deployment" / "lambda", Path("ggc") / "deployment" / "mlmodel"
_IMAGES = (".png", ".jpg", ".jpeg")
MAX_ENTRIES = 20_000
MAX_DEPTH = 12
MAX_FILE_BYTES, MAX_TOTAL_BYTES = 16 * 1024**2, 128 * 1024**2
"""Of code that is backed up: more is named, and stays where it is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file below the folder."""

    path: Path
    name: str
    size: int


def is_device_folder(path: Path) -> bool:
    """Whether a folder looks like the root of a core."""
    return any((path / part).exists() for part in (CONFIG, GROUP, Path("ggc") / "core"))


def read_folder(setup: Setup) -> None:
    """Read ``config/config.json``, ``certs/`` and, where they are, the group and what was deployed.

    Raises:
        UsageError: a file may not be read, or is not what it should be.
    """
    root = setup.source
    accelerator = read_accelerator(root)
    if (root / GROUP).exists():
        _read_group(parse(read_text(root / GROUP), str(root / GROUP)), setup)
        setup.files.append((root / GROUP, str(GROUP)))
    skipped: list[str] = []
    for part in ("config", "certs"):
        for entry in files_below(root, Path(part), skipped):
            if entry.size > MAX_FILE_BYTES:
                skipped.append(f"{entry.name}: {entry.size:,} bytes")
            else:
                setup.files.append((entry.path, entry.name))
    lambdas, images, code = _code_of(root, skipped)
    setup.files += [(entry.path, entry.name) for entry in code]
    mqtt = {} if accelerator is None else accelerator.section["mqtt"]
    if accelerator is not None and "thing" in accelerator.section:
        thing = str(accelerator.section["thing"])
        certificate = mqtt["tls"].get("certificate")
        arn = None if certificate is None else _certificate_arn(Path(certificate))
        known = next((core for core in setup.cores if core.thing == thing), None)
        shadow = None if known is None else known.sync_shadow
        setup.cores = [Core(f":thing/{thing}", arn or (known.certificate_arn if known else None), shadow)]
    setup.on_device = OnDevice(
        root=root,
        endpoint=mqtt.get("host"),
        port=mqtt.get("port"),
        keepalive_s=mqtt.get("keepalive") if isinstance(mqtt.get("keepalive"), int) else None,
        store=() if accelerator is None else tuple(_texts(accelerator.section.get("store"))),
        config_problems=None if accelerator is None else _problems(root),
        lambdas=lambdas,
        images=images,
        models=_models(root, skipped),
        outside=tuple(
            str(path)
            for path in map(Path, mqtt.get("tls", {}).values())
            if path.is_absolute() and not _inside(path, root)
        ),
        not_backed_up=tuple(skipped),
    )


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    for key, item in value.items() if isinstance(value, dict) else ():
        if isinstance(item, str):
            yield key, item


def _problems(root: Path) -> str | None:
    try:
        read_device(root)
    except UsageError as error:
        return str(error)
    return None


def _inside(path: Path, root: Path) -> bool:
    return path.absolute().is_relative_to(root.absolute())


def _read_group(value: Any, setup: Setup) -> None:
    """The core's own note of the group; ``GroupDefinitions`` has a list ``Content`` for each kind."""
    part = Part(value, str(GROUP), setup)
    region = part.text("region")
    arn = part.text("arn") or ""
    setup.region = region or (arn.split(":")[3] if arn.count(":") > 3 else None) or None
    read_cores(part, setup)
    read_devices(part, setup)
    part.drop(
        "version", "timestamp", "deploymentid", "tenantid", "groupid", "etag", "accountid", "hmac", "certificates"
    )
    definitions = part.part("groupdefinitions")
    lambdas = definitions.part("lambdas")
    read_functions(lambdas, setup)
    for item in lambdas.parts("content"):
        setup.functions.append(read_function(item))
    for key, reader in (
        ("resources", read_resources),
        ("subscriptions", read_subscriptions),
        ("logging", read_loggers),
    ):
        holder = definitions.part(key)
        reader(holder, setup, "content")
        holder.drop("version", "etag")
        holder.close()
    connectors = definitions.part("connectors")
    if "content" in connectors:
        connectors = Part({"connectors": connectors.raw("content")}, connectors.where, setup)
    read_connectors(connectors, setup)
    for holder in (lambdas, connectors):
        holder.drop("version", "etag")
        holder.close()
    definitions.close()
    part.close()


def _certificate_arn(path: Path) -> str | None:
    """AWS IoT's id of a certificate is the sha256 of its DER form."""
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_pem_x509_certificate

    try:
        with path.open("rb") as file:
            certificate = load_pem_x509_certificate(file.read(MAX_FILE_BYTES))
    except (OSError, ValueError):
        return None  # what is wrong with it, mli's reader says
    return f":cert/{hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()}"


def files_below(root: Path, part: Path, skipped: list[str]) -> Iterator[Entry]:
    """Regular files below ``root / part``, sorted; links are not followed but named in ``skipped``.

    Raises:
        UsageError: a folder may not be read, or there is no end of it.
    """
    links = [str(name) for name in (part, *part.parents[:-1]) if (root / name).is_symlink()]
    if links:
        skipped.append(f"{links[-1]}: a link, or no regular file")
        return
    count = 0
    pending = [(part, 0)]
    while pending:
        here, depth = pending.pop(0)
        try:
            with os.scandir(root / here) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _unreadable(root / here, error) from error
        for entry in found:
            count += 1
            if count > MAX_ENTRIES or depth > MAX_DEPTH:
                skipped.append(f"{here}: more than {MAX_ENTRIES:,} files, or deeper than {MAX_DEPTH} folders")
                return
            name = here / entry.name
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                raise _unreadable(root / name, error) from error
            if stat.S_ISDIR(status.st_mode):
                pending.append((name, depth + 1))
            elif stat.S_ISREG(status.st_mode):
                yield Entry(root / name, str(name), status.st_size)
            else:
                skipped.append(f"{name}: a link, or no regular file")


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"the folder cannot be read: {error.strerror}",
        where=str(path),
        remedy="run it as root, who alone may read a device's keys: sudo mli migrate …",
    )


def _code_of(root: Path, skipped: list[str]) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...], list[Entry]]:
    """Folders of functions, folders with images, and the files to back up."""
    lambdas: dict[str, None] = {}
    images: dict[str, int] = {}
    kept: list[Entry] = []
    total = 0
    for entry in files_below(root, LAMBDAS, skipped):
        parts = Path(entry.name).relative_to(LAMBDAS).parts
        if len(parts) > 1:
            lambdas[str(LAMBDAS / parts[0])] = None
        if entry.name.lower().endswith(_IMAGES):
            folder = str(Path(entry.name).parent)
            images[folder] = images.get(folder, 0) + 1
        if entry.size > MAX_FILE_BYTES or total + entry.size > MAX_TOTAL_BYTES:
            skipped.append(f"{entry.name}: {entry.size:,} bytes")
            continue
        total += entry.size
        kept.append(entry)
    return tuple(lambdas), tuple(images.items()), kept


def _models(root: Path, skipped: list[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, list[str]] = {}
    for entry in files_below(root, MODELS, skipped):
        parts = Path(entry.name).relative_to(MODELS).parts
        found.setdefault(str(MODELS / parts[0]), []).append("/".join(parts[1:]) or parts[0])
    return tuple((name, tuple(files[:50])) for name, files in found.items())
