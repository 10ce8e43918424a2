"""What the component's package holds: the same bytes each time, mli's own wheel, and a recipe that fits."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.brokers import ROOT
from tests.fixtures.small_wheels import locked, small_wheel

import mli
from mli.cloud import component_package
from mli.cloud.component_archive import write_archive
from mli.cloud.component_own_wheel import write_own_wheel
from mli.cloud.component_package import ComponentPackage
from mli.errors import StopError, UsageError

Build = Callable[..., ComponentPackage]
PARTS = {
    "pip": (),
    "numpy": ("x86_64-cp311", "x86_64-cp312"),
    "numpy_arm": ("aarch64-cp311",),
    "paho": (),
}


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Packs small wheels, with mli's own real one; an argument ``text`` changes one of them."""

    def pack(out: str = "out", text: str = "", **options: object) -> ComponentPackage:
        cache = tmp_path / f"cache-{out}"
        cache.mkdir(exist_ok=True)
        made = {name: small_wheel(cache, name, text=text if name == "paho" else "") for name in PARTS}
        wheels = tuple(locked(path, PARTS[name]) for name, path in made.items())
        monkeypatch.setattr(component_package, "locked_wheels", lambda: wheels)
        return component_package.build(tmp_path / out, cache=cache, **options)  # type: ignore[arg-type]

    return pack


def members(package: ComponentPackage) -> list[str]:
    with zipfile.ZipFile(package.artifact) as archive:
        return archive.namelist()


def test_the_same_content_gives_the_same_bytes_and_the_same_version(build: Build) -> None:
    one, two = build("one"), build("two")
    assert one.artifact.read_bytes() == two.artifact.read_bytes()
    assert one.sha256 == two.sha256 == hashlib.sha256(one.artifact.read_bytes()).hexdigest()
    assert one.size_bytes == one.artifact.stat().st_size
    assert one.version == two.version
    assert one.recipe == two.recipe


def test_other_content_gets_another_version(build: Build) -> None:
    versions = {build("one").version, build("two", text="x = 1").version, build("three", pythons=["3.11"]).version}
    assert len(versions) == 3
    assert all(version.startswith(f"{mli.__version__}-b") for version in versions)


def test_it_lies_where_the_local_command_lines_of_both_engines_look(build: Build, tmp_path: Path) -> None:
    package = build("out", bucket="my-bucket")
    version = package.version
    assert package.artifact == tmp_path / "out" / "artifacts" / "mli.core" / version / "mli-core.zip"
    assert package.recipe_path == tmp_path / "out" / "recipes" / f"mli.core-{version}.json"
    recipe = json.loads(package.recipe_path.read_text())
    assert recipe["ComponentVersion"] == version
    (artifact,) = recipe["Manifests"][0]["Artifacts"]
    assert artifact["Uri"] == f"s3://my-bucket/{package.artifact_key}"
    assert (
        json.loads(package.recipe)["Manifests"][0]["Artifacts"][0]["Uri"] == "s3://${ArtifactBucket}/${ArtifactKey}"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["artifacts", "recipes"]


def test_what_an_earlier_version_left_in_the_folder_goes(build: Build, tmp_path: Path) -> None:
    before, now = build("out"), build("out", text="x = 1")
    assert before.version != now.version
    assert [path.name for path in (tmp_path / "out" / "artifacts" / "mli.core").iterdir()] == [now.version]
    assert list((tmp_path / "out" / "recipes").iterdir()) == [now.recipe_path]


def test_each_target_gets_its_wheels_and_wheels_for_several_lie_there_once(build: Build) -> None:
    package = build()
    names = members(package)
    assert len(set(names)) == len(names)
    with zipfile.ZipFile(package.artifact) as archive:
        texts = {name: archive.read(name).decode() for name in names if name.startswith("requirements-")}
        index = json.loads(archive.read("index.json"))
    assert sorted(texts) == [f"requirements-{target}.txt" for target in sorted(package.targets)]
    assert list(index["targets"]) == list(package.targets)
    for target in package.targets:
        lines = texts[f"requirements-{target}.txt"].splitlines()
        needed = {name for name, targets in PARTS.items() if not targets or target in targets} - {"pip"} | {"mli"}
        assert {line.split("/")[1].split("-")[0] for line in lines} == needed
        assert all(" --hash=sha256:" in line for line in lines)
    assert index["pip"]["file"] in names


def test_fewer_targets_leave_out_what_only_others_need(build: Build) -> None:
    package = build(architectures=["x86_64"], pythons=["3.12"])
    assert package.targets == ("x86_64-cp312",)
    names = members(package)
    assert not any(name.startswith("numpy_arm") for name in names)
    assert any(name.startswith("numpy-") for name in names)
    assert [name for name in names if name.startswith("requirements")] == ["requirements-x86_64-cp312.txt"]


def test_the_artifact_suits_what_engines_unpack_with(build: Build, tmp_path: Path) -> None:
    package = build()
    with zipfile.ZipFile(package.artifact) as archive:
        entries = archive.infolist()
        archive.extractall(tmp_path / "unpacked")
    assert entries[0].filename == "README.txt", "an early nucleus lite left the first one out"
    assert not any("/" in entry.filename for entry in entries)
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    check = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "unpacked", timeout=60)
    assert check.returncode == 0


def test_progress_is_told(build: Build) -> None:
    told: list[tuple[str, int, int]] = []
    build(on_progress=lambda what, done, total: told.append((what, done, total)))
    assert told[0][0] == "wheels that are here already"
    assert told[-1][0] == "mli-core.zip"
    assert all(0 <= done <= total for _, done, total in told)


def test_an_architecture_without_wheels_is_refused_before_anything_is_made(build: Build, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no wheels for this architecture"):
        build(architectures=["armv7l"])
    assert not (tmp_path / "out").exists()


def test_the_own_wheel_is_what_runs_here(tmp_path: Path) -> None:
    wheel = write_own_wheel(tmp_path)
    package = ROOT / "src" / "mli"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert (
            archive.read("mli/assets/component-wheels.txt") == (package / "assets/component-wheels.txt").read_bytes()
        )
        metadata = archive.read(f"mli-{mli.__version__}.dist-info/METADATA").decode()
    expected = {f"mli/{path.relative_to(package)}" for path in package.rglob("*.py")}
    assert expected <= set(names)
    assert {"mli/py.typed", "mli/assets/recycling.zip", "mli/cloud/templates/device.yaml"} <= set(names)
    assert not any("__pycache__" in name for name in names)
    assert "Requires-Dist: numpy>=2\n" in metadata
    assert "# mli" not in metadata, "the long description depends on when an editable installation was made"


def test_the_own_wheel_installs(tmp_path: Path) -> None:
    wheel = write_own_wheel(tmp_path)
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True, timeout=120)
    script = target / "bin" / "mli"
    assert "from mli.__main__ import run" in script.read_text()
    assert (target / "mli" / "__main__.py").read_bytes() == (ROOT / "src" / "mli" / "__main__.py").read_bytes()


def test_the_own_wheel_is_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert write_own_wheel(tmp_path).read_bytes() == write_own_wheel(tmp_path / "other").read_bytes()


def test_an_archive_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.zip"
    write_archive(path, {"a.txt": b"one"})
    before = path.read_bytes()
    with pytest.raises(StopError, match="cannot be written"):
        write_archive(path, {"a.txt": b"two", "b.txt": tmp_path / "missing"})
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["a.zip"]


def test_a_full_disk_can_be_tried_again() -> None:
    """On a disk that takes a quarter of a megabyte."""
    program = (
        "from pathlib import Path\nfrom mli.cloud.component_archive import write_archive\n"
        "from mli.errors import RetryError\n"
        "try: write_archive(Path('/mnt/a.zip'), {'a': b'x' * 1_000_000})\n"
        "except RetryError as error: print(error, list(Path('/mnt').iterdir()))"
    )
    box = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--size", "262144", "--tmpfs", "/mnt"]
    done = subprocess.run([*box, sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "The disk is full." in done.stdout, done.stderr
    assert done.stdout.strip().endswith("[]")
