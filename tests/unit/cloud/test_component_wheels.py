"""The wheels of the component: the lock fits what mli was tested with, and they come whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename
from tests.fixtures.brokers import ROOT, free_port
from tests.fixtures.small_wheels import PackageIndex, locked, small_wheel

from mli.cloud.component_own_wheel import requirements_of_mli
from mli.cloud.component_wheels import (
    ARCHITECTURES,
    PYTHONS,
    Wheel,
    fetch,
    is_intact,
    locked_wheels,
    platform_options,
    targets_of,
)
from mli.errors import MliError, RefusedError, RetryError, StopError, UsageError

TARGETS = targets_of(ARCHITECTURES, PYTHONS)
HERE = "x86_64-cp311"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    server = PackageIndex({})
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.stop()


def offer(index: PackageIndex, path: Path) -> Wheel:
    index.files[path.name] = path.read_bytes()
    return locked(path)


def got(wheels: list[Wheel], cache: Path) -> list[tuple[str, int, int]]:
    told: list[tuple[str, int, int]] = []
    fetch(wheels, [HERE], cache, lambda what, done, total: told.append((what, done, total)))
    return told


def marker_surroundings(target: str) -> dict[str, str]:
    machine, _, tag = target.partition("-cp")
    version = f"{tag[0]}.{tag[1:]}"
    return {"platform_machine": machine, "python_version": version, "python_full_version": f"{version}.9"}


@pytest.mark.parametrize("target", TARGETS)
def test_the_lock_has_all_that_mli_needs_on_a_device(target: str) -> None:
    wheels = [wheel for wheel in locked_wheels() if wheel.suits(target)]
    names = {canonicalize_name(wheel.file.split("-")[0]) for wheel in wheels}
    assert len(names) == len(wheels), "one wheel a project"
    needed, waiting = {"pip"}, [(text, {"greengrass", "litert"}) for text in requirements_of_mli()]
    while waiting:
        text, extras = waiting.pop()
        requirement = Requirement(text)
        surroundings = marker_surroundings(target)
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({**surroundings, "extra": e}) for e in {"", *extras}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in needed:
            needed.add(name)
            waiting += [(one, requirement.extras) for one in distribution(name).requires or []]
    assert names == needed


def test_the_lock_has_the_versions_that_the_tests_run_with() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(name): version for name, version in (x.split("==") for x in lines if "==" in x)}
    for wheel in locked_wheels():
        name, version, _, _ = parse_wheel_filename(wheel.file)
        assert name == "pip" or pins[name] == str(version), f"{wheel.file}: run tools/pin_component.py"


def test_the_wheels_of_the_lock_can_run_where_they_are_meant_for() -> None:
    for wheel in locked_wheels():
        assert re.fullmatch("[0-9a-f]{64}", wheel.sha256)
        tags = parse_wheel_filename(wheel.file)[3]
        for target in wheel.targets or TARGETS:
            machine, _, number = target.partition("-cp")
            assert any(suits(tag, machine, int(number[1:])) for tag in tags), (wheel.file, target)


def suits(tag: Tag, machine: str, minor: int) -> bool:
    glibc = re.fullmatch(rf"manylinux_2_(\d+)_{machine}", tag.platform)
    on_machine = tag.platform in ("any", f"manylinux2014_{machine}") or (glibc is not None and int(glibc[1]) <= 28)
    if tag.interpreter.startswith("py"):
        return on_machine
    least = int(tag.interpreter.removeprefix("cp3"))
    return on_machine and (least == minor if tag.abi.startswith("cp") else tag.abi == "abi3" and least <= minor)


def test_targets_are_every_machine_with_every_python() -> None:
    assert len(TARGETS) == 6
    assert targets_of(["aarch64"], ["3.12"]) == ("aarch64-cp312",)
    assert "manylinux_2_28_aarch64" in platform_options("aarch64-cp312")
    assert platform_options("x86_64-cp313")[-3] == "3.13"


@pytest.mark.parametrize(("machines", "pythons"), [(["armv7l"], ["3.11"]), (["x86_64"], ["3.9"]), ([], ["3.11"])])
def test_what_there_are_no_wheels_for_is_said(machines: list[str], pythons: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        targets_of(machines, pythons)
    assert caught.value.expected


def test_wheels_come_once_and_are_told(index: PackageIndex, tmp_path: Path) -> None:
    wheels = [offer(index, small_wheel(tmp_path, name)) for name in ("first_one", "second")]
    cache = tmp_path / "cache"
    told = got(wheels, cache)
    assert all(is_intact(cache / wheel.file, wheel) for wheel in wheels)
    assert {what for what, _, _ in told} >= {wheel.file for wheel in wheels}
    assert told[-1][1] == told[-1][2] == sum(wheel.size_bytes for wheel in wheels)
    index.asked.clear()
    assert got(wheels, cache)[0][1] == told[-1][2]
    assert not index.asked
    assert sorted(path.name for path in cache.iterdir()) == sorted(wheel.file for wheel in wheels)


def test_a_damaged_wheel_in_the_cache_is_brought_anew(index: PackageIndex, tmp_path: Path) -> None:
    wheel = offer(index, small_wheel(tmp_path, "first_one"))
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / wheel.file).write_bytes(b"x" * wheel.size_bytes)
    got([wheel], cache)
    assert (cache / wheel.file).read_bytes() == index.files[wheel.file]


def test_another_wheel_under_the_same_name_is_refused(index: PackageIndex, tmp_path: Path) -> None:
    wheel = offer(index, small_wheel(tmp_path, "first_one"))
    index.files[wheel.file] += b"more"
    with pytest.raises(RefusedError, match="another wheel than mli was tested with") as caught:
        got([wheel], tmp_path / "cache")
    assert caught.value.remedy
    assert not list((tmp_path / "cache").iterdir())


def test_a_wheel_that_the_index_does_not_have_is_named(index: PackageIndex, tmp_path: Path) -> None:
    wheel = locked(small_wheel(tmp_path, "first_one"))
    index.files[small_wheel(tmp_path, "first_one", version="2.0").name] = b""
    with pytest.raises(RefusedError) as caught:
        got([wheel], tmp_path / "cache")
    assert "first_one==1.0" in str(caught.value)


def test_without_a_network_it_can_be_tried_again(
    index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, missing = (offer(index, small_wheel(tmp_path, name)) for name in ("first_one", "second"))
    got([here], tmp_path / "cache")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{free_port()}/simple")
    with pytest.raises(RetryError, match="index cannot be reached") as caught:
        got([here, missing], tmp_path / "cache")
    assert "what was brought is kept" in str(caught.value.remedy)
    assert is_intact(tmp_path / "cache" / here.file, here)


def test_a_python_without_pip_says_so(index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr("mli.cloud.component_wheels.sys.executable", str(python))
    with pytest.raises(StopError, match="has no pip") as caught:
        got([offer(index, small_wheel(tmp_path, "first_one"))], tmp_path / "cache")
    assert isinstance(caught.value, MliError)
    assert "ensurepip" in str(caught.value.remedy)
