"""Renew the component's lock: every wheel that a device needs, for each machine and Python, with its digest.

    python tools/pin_component.py       # after constraints.txt changed; `make constraints` does it

The versions are those of constraints.txt. What depends on what is read from the wheels themselves, with the markers
of the machine and Python that they are for.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mli.cloud.component_own_wheel import requirements_of_mli
from mli.cloud.component_wheels import ARCHITECTURES, EVERY, LOCK, PYTHONS, platform_options, targets_of

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = frozenset({"greengrass", "litert"})
TITLE = """# What mli's Greengrass component brings to a device: digest, size in bytes, wheel, and what it is for.
# Made from constraints.txt by tools/pin_component.py, which `make constraints` runs.
"""


def main() -> int:
    pins = dict(read_pins())
    targets = targets_of(ARCHITECTURES, PYTHONS)
    found: dict[Path, set[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        for target in targets:
            print(f"{target} ...", file=sys.stderr, flush=True)
            folder = Path(name) / target
            for path in closure(target, pins, folder):
                found.setdefault(Path(path.name), set()).add(target)
                path.replace(Path(name) / path.name)
        lines = [line(Path(name) / path, used, len(targets)) for path, used in found.items()]
    text = TITLE + "".join(sorted(lines, key=lambda text: text.split()[2].lower()))
    (ROOT / "src" / "mli" / "assets" / LOCK).write_text(text, encoding="utf-8")
    return 0


def read_pins() -> list[tuple[str, str]]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (text.split("==") for text in lines if "==" in text)
    return [(canonicalize_name(name), version) for name, version in pairs]


def closure(target: str, pins: dict[str, str], folder: Path) -> list[Path]:
    """Bring pip and all that mli needs on this target, one distance from mli after the other."""
    download(["pip"], target, folder)
    asked: set[tuple[str, str]] = set()
    wanted = [(requirement, EXTRAS) for requirement in requirements_of_mli()]
    while True:
        fresh = {(name, extra) for text, extras in wanted for name, extra in needed(text, extras, target)} - asked
        if not fresh:
            return sorted(folder.glob("*.whl"))
        asked |= fresh
        names = sorted({name for name, _ in fresh})
        missing = [name for name in names if name not in pins]
        if missing:
            sys.exit(f"constraints.txt does not pin {', '.join(missing)}, which {target} needs")
        download([f"{name}=={pins[name]}" for name in names], target, folder)
        wanted = [
            (text, frozenset(extra for other, extra in fresh if other == name))
            for name in names
            for text in requirements_in(folder, name)
        ]


def needed(text: str, extras: frozenset[str], target: str) -> set[tuple[str, str]]:
    requirement = Requirement(text)
    for extra in extras | {""}:
        if requirement.marker is None or requirement.marker.evaluate({**surroundings(target), "extra": extra}):
            name = canonicalize_name(requirement.name)
            return {(name, wanted) for wanted in (*requirement.extras, "")}
    return set()


def surroundings(target: str) -> dict[str, str]:
    machine, _, tag = target.partition("-cp")
    version = f"{tag[0]}.{tag[1:]}"
    return {
        "implementation_name": "cpython",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "python_version": version,
        "python_full_version": f"{version}.9",
        "implementation_version": f"{version}.9",
    }


def download(requirements: list[str], target: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*command, *platform_options(target), *requirements], check=True)


def requirements_in(folder: Path, name: str) -> list[str]:
    (path,) = (path for path in folder.glob("*.whl") if canonicalize_name(path.name.split("-")[0]) == name)
    with zipfile.ZipFile(path) as wheel:
        (member,) = (one for one in wheel.namelist() if one.endswith(".dist-info/METADATA") and one.count("/") == 1)
        headers = HeaderParser().parsestr(wheel.read(member).decode("utf-8"))
    return headers.get_all("Requires-Dist") or []


def line(path: Path, used: set[str], count: int) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{digest} {path.stat().st_size} {path.name} {EVERY if len(used) == count else ','.join(sorted(used))}\n"


if __name__ == "__main__":
    sys.exit(main())
