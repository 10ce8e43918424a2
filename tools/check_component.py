"""Build the Greengrass component for everything, and live with it where there is nothing: ``make component-check``.

    python -m tools.check_component [--emulated] [--python FOLDER]...

It packs the component twice and compares; asks pip whether each machine and Python finds all it needs in the
artifact alone; and then, on Debian systems of their own without a network, takes the recipe's scripts through a life,
as each engine hands them to a shell: install killed half-way, install, install again, run, SIGTERM, run again, with
predictions arriving. ``--python`` adds this machine's system with another Python, such as pyenv's, and ``--emulated``
a Debian for aarch64, by QEMU. Needs root, to make the systems: about 300 MB each, kept in the user's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fixtures.brokers import Mosquitto
from tests.fixtures.clean_root import System
from tests.fixtures.component_life import Life, live
from tests.fixtures.greengrass_engines import Engine, EngineName

from mli.cloud.component_package import ComponentPackage, build
from mli.cloud.component_wheels import platform_options
from mli.cloud.names import COMPONENT

ROOT = Path(__file__).resolve().parent.parent
SUITES = ("bookworm", "trixie")
"""Debian 12 with Python 3.11 and Debian 13 with 3.13, both without ensurepip and pip."""
CACHE = Path.home() / ".cache" / "mli-test-roots"


def main() -> int:
    """Run it all; the exit code says whether everything held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], type=Path, metavar="FOLDER", help="above its bin")
    parser.add_argument("--emulated", action="store_true", help="also a Debian for aarch64, on a machine of x86_64")
    parser.add_argument("--work", type=Path, help="a folder with 4 GB of room; else the system's for temporary files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="component-") as name:
        folder = Path(name)
        package = pack_twice(folder)
        compare_own_wheel(folder, package)
        look_at_scripts(folder, package)
        resolve_offline(folder, package)
        with broker(folder) as mosquitto:
            for number, life in enumerate(lives(arguments.python, arguments.emulated)):
                say(f"{life.system.name}, nucleus {life.engine}{'' if life.unpack else ', not unpacked'}")
                place = folder / f"life-{number}"
                live(life, package, mosquitto, place, lambda text: say(f"  {text}"))
                shutil.rmtree(place)
    say("all of it held")
    return 0


def say(text: str) -> None:
    print(text, flush=True)


def pack_twice(folder: Path) -> ComponentPackage:
    """Pack for every machine and Python; a second time gives the same bytes."""
    started = time.monotonic()
    package = build(folder / "package")
    say(f"packed {package.version} for {', '.join(package.targets)}")
    say(f"  {package.size_bytes / 1e6:.0f} MB, {package.unpacked_bytes / 1e6:.0f} MB of it on a device, unpacked")
    say(f"  in {time.monotonic() - started:.0f} s")
    again = build(folder / "again")
    assert again.sha256 == package.sha256
    assert again.recipe == package.recipe
    shutil.rmtree(folder / "again")
    say("packed again: the same bytes")
    return package


def compare_own_wheel(folder: Path, package: ComponentPackage) -> None:
    """mli's own wheel holds what the build backend would put into it."""
    source = folder / "source"  # without what an earlier build left in the checkout
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src" / "mli", source / "src" / "mli", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder / "built")]
    subprocess.run([*command, str(source)], check=True)
    (built,) = (folder / "built").glob("mli-*.whl")
    with zipfile.ZipFile(package.artifact) as archive, zipfile.ZipFile(built) as theirs:
        (name,) = (one for one in archive.namelist() if one.startswith("mli-"))
        with archive.open(name) as file, zipfile.ZipFile(file) as ours:
            for member in theirs.namelist():
                if member.startswith("mli/") or member.endswith("entry_points.txt"):
                    assert ours.read(member) == theirs.read(member), member
            more = {one for one in ours.namelist() if one.startswith("mli/")} - set(theirs.namelist())
    assert not more, more
    say("mli's own wheel: the same files as the build backend's")


def look_at_scripts(folder: Path, package: ComponentPackage) -> None:
    """shellcheck has nothing to say about what a device's shell is given."""
    need("shellcheck")
    (manifest,) = json.loads(package.recipe_path.read_text())["Manifests"]
    scripts = folder / "scripts"
    scripts.mkdir()
    with zipfile.ZipFile(package.artifact) as archive:
        archive.extract("install.sh", scripts)
    names: tuple[EngineName, ...] = ("classic", "lite")
    for name in names:
        for step, content in manifest["Lifecycle"].items():
            script = Engine(name, COMPONENT, package.version).script(content)
            (scripts / f"{name}-{step}.sh").write_text(f"#!/bin/sh\n{script}")
    subprocess.run(["shellcheck", *sorted(map(str, scripts.iterdir()))], check=True)
    say("the scripts: shellcheck has nothing to say")


def resolve_offline(folder: Path, package: ComponentPackage) -> None:
    """For each machine and Python, pip finds all that mli needs among the artifact's wheels alone."""
    with zipfile.ZipFile(package.artifact) as archive:
        archive.extractall(folder / "wheels")
    surroundings = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PIP_")},
        "PIP_CONFIG_FILE": os.devnull,
    }
    for target in package.targets:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-index", "--ignore-installed"]
        command += ["--target", str(folder / "nothing"), "--find-links", str(folder / "wheels")]
        command += [*platform_options(target), "mli[greengrass,litert]"]
        subprocess.run(command, check=True, env=surroundings)
        say(f"{target}: everything is in the artifact")
    shutil.rmtree(folder / "wheels")


def lives(pythons: list[Path], emulated: bool) -> Iterator[Life]:
    """Each Debian system with each engine, and the two ways of nucleus lite."""
    old, new = (System(suite, debian(suite)) for suite in SUITES)
    yield Life(old, "classic")
    yield Life(old, "lite")
    yield Life(new, "classic")
    yield Life(new, "lite", unpack=False)
    if emulated:
        emulate_aarch64()
        yield Life(System(f"{SUITES[0]} for aarch64", debian(SUITES[0], "arm64")), "lite", kill=False)
    for python in pythons:
        yield Life(System(f"this machine with {python.name}", Path("/"), python.absolute()), "lite")


def emulate_aarch64() -> None:
    """Have the kernel start programs for aarch64 with QEMU."""
    formats = Path("/proc/sys/fs/binfmt_misc")
    need("qemu-aarch64-static", "qemu-user-static")
    need("update-binfmts", "binfmt-support")
    if not (formats / "status").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(formats)], check=True)
    if not (formats / "qemu-aarch64").exists():
        subprocess.run(["update-binfmts", "--enable", "qemu-aarch64"], check=True)


def debian(suite: str, architecture: str | None = None) -> Path:
    """A minimal Debian with its Python, and nothing for Python beside; this machine's architecture without one."""
    kept = CACHE / (f"{suite}-{architecture}" if architecture else suite)
    if not kept.exists():
        say(f"making a Debian {suite} (some minutes, once) ...")
        need("debootstrap")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            made = Path(name) / suite
            make = ["debootstrap", "--variant=minbase", "--include=python3"]
            make += [f"--arch={architecture}"] if architecture else []
            subprocess.run([*make, suite, str(made)], check=True, stdout=subprocess.DEVNULL)
            made.rename(kept)
    return kept


def need(program: str, package: str | None = None) -> None:
    """Have Debian's package installed that has a program; it has its name, where no other is said."""
    if shutil.which(program) is None:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package or program]
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(install, check=True, env=environment, stdout=subprocess.DEVNULL)


@contextmanager
def broker(folder: Path) -> Iterator[Mosquitto]:
    """What stands for AWS IoT Core."""
    (folder / "broker").mkdir()
    mosquitto = Mosquitto(folder / "broker")
    mosquitto.start()
    try:
        yield mosquitto
    finally:
        mosquitto.stop()


if __name__ == "__main__":
    sys.exit(main())
