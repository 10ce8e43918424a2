"""mli's own wheel, made from the package that runs: from a checkout as well as from an installation.

It is made here and not by a build backend, so that nothing has to be fetched for it and the same files give the
same bytes, whoever makes it. The long description is left out: a device does not read it, and an editable
installation keeps an old one.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import mli
from mli.cloud.component_archive import write_archive
from mli.errors import StopError

_HEADERS = ("Name", "Version", "Summary", "License-Expression", "Requires-Python", "Requires-Dist", "Provides-Extra")
_WHEEL = "Wheel-Version: 1.0\nGenerator: mli\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def requirements_of_mli() -> list[str]:
    """What mli depends on, as its metadata says, extras included."""
    return _installed().metadata.get_all("Requires-Dist") or []


def own_wheel_name() -> str:
    return f"mli-{mli.__version__}-py3-none-any.whl"


def write_own_wheel(folder: Path) -> Path:
    """Write the wheel into ``folder``; the same files give the same bytes.

    Raises:
        StopError: this mli was not installed, so nothing says what it depends on.
        RetryError: the disk does not take it.
    """
    installed = _installed()
    package = Path(mli.__file__).parent
    about = f"mli-{mli.__version__}.dist-info"
    members: dict[str, Path | bytes] = {
        f"mli/{path.relative_to(package).as_posix()}": path for path in _package_files(package)
    }
    members[f"{about}/METADATA"] = _metadata(installed).encode()
    members[f"{about}/WHEEL"] = _WHEEL.encode()
    entry_points = installed.read_text("entry_points.txt")
    if entry_points:
        members[f"{about}/entry_points.txt"] = entry_points.encode()
    licence = installed.read_text("licenses/LICENSE")
    if licence:
        members[f"{about}/licenses/LICENSE"] = licence.encode()
    members = dict(sorted(members.items()))
    members[f"{about}/RECORD"] = _record(members, f"{about}/RECORD").encode()
    path = folder / own_wheel_name()
    write_archive(path, members)
    return path


def unpacked_bytes(wheel: Path) -> int:
    """What a wheel takes on the disk."""
    with zipfile.ZipFile(wheel) as archive:
        return sum(member.file_size for member in archive.infolist())


def _installed() -> Distribution:
    try:
        return distribution("mli")
    except PackageNotFoundError as error:
        raise StopError(
            "This mli was not installed, so nothing says what it depends on.",
            where=mli.__file__,
            remedy="pip install it, or in a checkout: make test",
        ) from error


def _package_files(package: Path) -> list[Path]:
    found = (path for path in package.rglob("*") if path.is_file())
    hidden = (path for path in found if not any(part.startswith(".") for part in path.relative_to(package).parts))
    return [
        path for path in hidden if "__pycache__" not in path.parts and path.suffix not in (".pyc", ".orig", ".rej")
    ]


def _metadata(installed: Distribution) -> str:
    lines = ["Metadata-Version: 2.4"]
    for name in _HEADERS:
        lines += [f"{name}: {value}" for value in installed.metadata.get_all(name) or []]
    return "\n".join(lines) + "\n"


def _record(members: dict[str, Path | bytes], own: str) -> str:
    lines = []
    for name, content in members.items():
        data = content if isinstance(content, bytes) else content.read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{own},,"]) + "\n"
