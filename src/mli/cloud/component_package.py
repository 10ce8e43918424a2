"""Packs the Greengrass V2 component: its artifact, with all that a device needs, and its recipe.

The same artifact installs mli on a device without Greengrass: unpacked anywhere, ``sh install.sh /opt/mli``.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import mli
from mli.cloud import component_installer
from mli.cloud.component_archive import write_archive
from mli.cloud.component_own_wheel import unpacked_bytes, write_own_wheel
from mli.cloud.component_recipe import ARTIFACT_FILE, artifact_key, component_version, recipe_text
from mli.cloud.component_wheels import (
    ARCHITECTURES,
    PYTHONS,
    OnProgress,
    Wheel,
    default_cache,
    fetch,
    locked_wheels,
    sha256_of,
    targets_of,
)
from mli.cloud.names import COMPONENT
from mli.errors import StopError

_README = """\
mli {version} for {targets}

Installs without a network, from the wheels in this folder:

    sh install.sh FOLDER [PYTHON]

Afterwards FOLDER/bin/mli is the command.
"""


@dataclass(frozen=True, slots=True)
class ComponentPackage:
    """What was packed.

    Attributes:
        recipe: JSON text, for ``Fn::Sub``: the artifact's address is ``s3://${ArtifactBucket}/${ArtifactKey}``.
        recipe_path: the recipe as a file, with an address, for ``greengrass-cli``, ``ggl-cli`` and the AWS CLI.
        artifact: the zip file, in the folders that both local command lines expect.
        artifact_key: key in the artifact bucket; its last part must not change.
        sha256: of the artifact, lower-case hex.
        version: of the component; it changes with the content, never without.
        targets: such as ``x86_64-cp311``.
        unpacked_bytes: what an installation takes on a device's disk, for the largest target.
    """

    recipe: str
    recipe_path: Path
    artifact: Path
    artifact_key: str
    sha256: str
    size_bytes: int
    version: str
    targets: tuple[str, ...]
    unpacked_bytes: int


def build(
    out: Path,
    architectures: Sequence[str] = ARCHITECTURES,
    pythons: Sequence[str] = PYTHONS,
    on_progress: OnProgress | None = None,
    *,
    bucket: str = "BUCKET",
    cache: Path | None = None,
) -> ComponentPackage:
    """Pack the component below the folder ``out``, as ``recipes/`` and ``artifacts/``.

    The same content gives the same bytes and the same version.

    Args:
        architectures: some of ``x86_64``, ``aarch64``.
        pythons: some of ``3.11``, ``3.12``, ``3.13``.
        on_progress: told what is at work, and how many bytes of how many are done.
        bucket: in the recipe file's address of the artifact; local deployments do not look there.
        cache: where wheels are kept; the user's own without.

    Raises:
        UsageError: there are no wheels for this architecture or Python.
        RetryError: no way to the package index, or the disk is full; what was brought is kept.
        RefusedError: the index does not have the wheels that mli was tested with.
        StopError: mli was not installed, or this Python has no pip.
    """
    tell = on_progress or _silent
    targets = targets_of(architectures, pythons)
    wheels = [wheel for wheel in locked_wheels() if any(map(wheel.suits, targets))]
    cache = cache or default_cache()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StopError("The folder cannot be made.", where=str(out), got=error.strerror) from error
    fetch(wheels, targets, cache, tell)
    with tempfile.TemporaryDirectory(dir=out, prefix=".own-") as folder:
        own = write_own_wheel(Path(folder))
        own_wheel = Wheel(own.name, sha256_of(own), own.stat().st_size, frozenset())
        members = _members([*wheels, own_wheel], targets, {**{w.file: cache / w.file for w in wheels}, own.name: own})
        index = json.loads(_bytes(members["index.json"]))
        version = component_version(mli.__version__, index["digest"])
        artifact = out / "artifacts" / COMPONENT / version / ARTIFACT_FILE
        size = sum(wheel.size_bytes for wheel in wheels)
        tell(ARTIFACT_FILE, 0, size)
        write_archive(artifact, members)
        tell(ARTIFACT_FILE, size, size)
    _remove_others(out, version)
    key = artifact_key(version)
    recipe_path = out / "recipes" / f"{COMPONENT}-{version}.json"
    recipe_path.parent.mkdir(exist_ok=True)
    recipe_path.write_text(recipe_text(version, index["digest"], f"s3://{bucket}/{key}"), encoding="utf-8")
    return ComponentPackage(
        recipe=recipe_text(version, index["digest"]),
        recipe_path=recipe_path,
        artifact=artifact,
        artifact_key=key,
        sha256=sha256_of(artifact),
        size_bytes=artifact.stat().st_size,
        version=version,
        targets=targets,
        unpacked_bytes=max(about["bytes"] for about in index["targets"].values()),
    )


def _remove_others(out: Path, version: str) -> None:
    """Earlier versions: a local deployment of nucleus lite copies all that lies there to the device."""
    for artifact in (out / "artifacts" / COMPONENT).glob(f"*/{ARTIFACT_FILE}"):
        if artifact.parent.name != version:
            artifact.unlink()
            with suppress(OSError):  # something else lies beside it
                artifact.parent.rmdir()
    for recipe in (out / "recipes").glob(f"{COMPONENT}-*.json"):
        if recipe.name != f"{COMPONENT}-{version}.json":
            recipe.unlink()


def _members(wheels: Sequence[Wheel], targets: Sequence[str], where: Mapping[str, Path]) -> dict[str, Path | bytes]:
    """The artifact's files in their order, all in one folder.

    The first one is a file that nothing needs: an early nucleus lite left the first entry out.
    """
    script = (files("mli") / "assets" / "component-install.sh").read_bytes()
    readme = _README.format(version=mli.__version__, targets=", ".join(targets))
    (pip,) = (wheel for wheel in wheels if wheel.file.startswith("pip-"))
    texts = {"install.py": Path(component_installer.__file__).read_bytes(), "install.sh": script}
    about: dict[str, dict[str, int]] = {}
    sizes = {wheel.file: unpacked_bytes(where[wheel.file]) for wheel in wheels}
    for target in targets:
        mine = sorted((w for w in wheels if w.suits(target) and w is not pip), key=lambda w: w.file)
        lines = "".join(f"./{wheel.file} --hash=sha256:{wheel.sha256}\n" for wheel in mine)
        texts[f"requirements-{target}.txt"] = lines.encode()
        about[target] = {"bytes": sum(sizes[wheel.file] for wheel in mine)}
    digests = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    digests |= {wheel.file: wheel.sha256 for wheel in wheels}
    listed = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    index = {
        "mli": mli.__version__,
        "digest": hashlib.sha256(listed.encode()).hexdigest(),
        "pip": {"file": pip.file, "sha256": pip.sha256},
        "targets": about,
    }
    return {
        "README.txt": readme.encode(),
        "SHA256SUMS": listed.encode(),
        "index.json": (json.dumps(index, indent=1) + "\n").encode(),
        **dict(sorted(texts.items())),
        **{wheel.file: where[wheel.file] for wheel in sorted(wheels, key=lambda w: w.file)},
    }


def _bytes(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _silent(_what: str, _done: int, _total: int) -> None:
    pass
