"""The device's folder: its settings, who may read what, and its certificates."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mli.config.redaction import redact
from mli.core.doctor.finding import Verdict, fail, of_error, ok, skipped, warn
from mli.core.doctor.patient import Patient

if TYPE_CHECKING:
    from mli.core.certificates import Findings


def check_settings(patient: Patient) -> Verdict:
    """device.yaml, or the accelerator's config.json."""
    if patient.device_error is not None:
        return of_error(patient.device_error, "correct the lines that are named; `mli config FILE` checks a file")
    device = patient.device
    if device is None:
        return warn(
            f"{patient.root.path} holds neither device.yaml nor config/config.json: only the machine is checked",
            "name the device's folder with --root, or make one with `mli device bundle`",
        )
    if device.mqtt is None and patient.root.configuration.exists():
        return ok(f"thing {device.thing}, a component of Greengrass: its nucleus publishes the predictions")
    if device.mqtt is None:
        return ok(f"thing {device.thing}, no broker: predictions are printed")
    scheme = "mqtt" if device.mqtt.tls is None else "mqtts"
    return ok(f"thing {device.thing}, broker {scheme}://{device.mqtt.host}:{device.mqtt.port}")


def check_permissions(patient: Patient) -> Verdict:
    """The core can read its secrets, and nobody else can."""
    root = patient.root.path
    if not root.is_dir():
        return skipped(f"{root} is not there yet")
    user, groups = _user_of_core(patient)
    unreadable, open_to_all, unseen = [], [], []
    for path in _secret_files(patient):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue  # the check of the settings tells
        except PermissionError:
            unseen.append(path)
            continue
        if not may_read(found, user, groups):
            unreadable.append(path)
        if found.st_mode & stat.S_IROTH and _is_reachable_by_all(path):
            open_to_all.append(path)
    if unreadable:
        return fail(
            f"user {user}, to whom the folder belongs, cannot read {_listed(unreadable)}",
            f"chown {user} {' '.join(map(str, unreadable))}",
        )
    if open_to_all:
        return warn(
            f"every user of this machine can read {_listed(open_to_all)}",
            f"chmod o-rwx {' '.join(map(str, open_to_all))}",
        )
    if unseen:
        return warn(
            f"this user may not look at {_listed(unseen)}", "run `mli doctor` with sudo, or as the core's user"
        )
    return ok(f"private keys and secrets are readable by user {user} and no others")


def check_certificate(patient: Patient) -> Verdict:
    """The device's certificate is valid today, and its key belongs to it."""
    broker = patient.broker()
    if broker is None or broker.tls is None or broker.tls.certificate_path is None:
        return skipped("the device has no certificate")
    from mli.core.certificates import check_identity

    assert broker.tls.private_key_path is not None
    now = datetime.fromtimestamp(patient.now(), UTC)
    paths = Path(broker.tls.certificate_path), Path(broker.tls.private_key_path)
    return _judged(check_identity(*paths, now), "its key belongs to it")


def check_authority(patient: Patient) -> Verdict:
    """The file of authorities holds some, valid today. Whether they are the broker's, a handshake tells."""
    broker = patient.broker()
    if broker is None or broker.tls is None:
        return skipped("the broker is spoken to without TLS" if broker is not None else "there is no broker")
    if broker.tls.ca_path is None:
        return ok("the system's own authorities are trusted")
    from mli.core.certificates import check_authorities

    now = datetime.fromtimestamp(patient.now(), UTC)
    return _judged(check_authorities(Path(broker.tls.ca_path), now), "may sign others")


def _judged(findings: Findings, good: str) -> Verdict:
    if findings.problems:
        verdict = of_error(findings.problems[0], "put the right file in its place")
        more = len(findings.problems) - 1
        return verdict if not more else replace(verdict, detail=f"{verdict.detail} (and {more} more)")
    if findings.cautions:
        return warn("; ".join(findings.cautions), "replace it before that matters")
    first = findings.facts[0]
    return ok(f"{first.subject}, until {first.not_after:%Y-%m-%d}, {good}")


def _secret_files(patient: Patient) -> Iterator[Path]:
    root = patient.root.path
    broker = patient.broker()
    if broker is not None and broker.tls is not None and broker.tls.private_key_path is not None:
        yield Path(broker.tls.private_key_path)
    if _holds_secret(root / "device.yaml"):
        yield root / "device.yaml"
    secrets = root / "secrets"
    try:
        yield from sorted(path for path in secrets.iterdir() if path.is_file())
    except FileNotFoundError:
        return
    except PermissionError:
        yield secrets / "*"


def _holds_secret(path: Path) -> bool:
    """Whether a password or key stands in a file itself."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return False
    return redact(text) != text


def _user_of_core(patient: Patient) -> tuple[int, set[int]]:
    """User and groups of the core that runs, else of the folder."""
    if patient.core_pid:
        try:
            lines = Path(f"/proc/{patient.core_pid}/status").read_text().splitlines()
            words = {line.split(":")[0]: line.split()[1:] for line in lines}
            return int(words["Uid"][1]), {int(words["Gid"][1]), *map(int, words["Groups"])}
        except (OSError, KeyError, IndexError, ValueError):
            pass
    found = patient.root.path.stat()
    return found.st_uid, {found.st_gid}


def may_read(found: os.stat_result, user: int, groups: set[int]) -> bool:
    """Whether a user of these groups may read a file."""
    if user == 0:
        return True
    if found.st_uid == user:
        return bool(found.st_mode & stat.S_IRUSR)
    if found.st_gid in groups:
        return bool(found.st_mode & stat.S_IRGRP)
    return bool(found.st_mode & stat.S_IROTH)


def _is_reachable_by_all(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def _listed(paths: list[Path]) -> str:
    rest = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(map(str, paths[:3])) + rest
