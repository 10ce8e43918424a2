"""The unit: what systemd itself says of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mli.core.service.unit import UnitSettings, root_and_user, start_arguments, unit_text

WITH_CONTAINERS, WITHOUT = 2.8, 1.5
"""How much exposure `systemd-analyze security` may find."""
BOTH = [(True, True), (True, False), (False, True), (False, False)]


def unit(folder: Path, root: str = "/var/lib/mli", *, containers: bool = True, camera: bool = False) -> Path:
    settings = UnitSettings(sys.executable, Path(root), containers=containers, camera=camera, systemd_version=252)
    path = folder / "mli.service"
    path.write_text(unit_text(settings))
    return path


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("containers", "camera"), BOTH)
def test_little_is_exposed(tmp_path: Path, containers: bool, camera: bool) -> None:
    path = unit(tmp_path, containers=containers, camera=camera)
    said = analyze("security", "--offline=yes", "--no-pager", path)
    found = re.search(r"Overall exposure level for mli.service: ([\d.]+)", said.stdout)
    assert found, said
    assert float(found[1]) <= (WITH_CONTAINERS if containers else WITHOUT)


@pytest.mark.parametrize("containers", [True, False])
@pytest.mark.parametrize(
    "root", ["/var/lib/mli", "/greengrass", "/srv/a b/100%;'x'/$HOME\\é", '/srv/"quoted"', "/srv/%n/$$/-"]
)
def test_systemd_takes_the_unit_without_a_word(tmp_path: Path, root: str, containers: bool) -> None:
    said = analyze("verify", "--man=no", unit(tmp_path, root, containers=containers))
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_the_check_above_would_notice_a_mistake(tmp_path: Path) -> None:
    path = unit(tmp_path)
    path.write_text(path.read_text().replace("ProtectSystem=strict", "ProtectSystems=strict"))
    assert "'ProtectSystems'" in analyze("verify", "--man=no", path).stderr


def test_a_unit_tells_whose_it_is(tmp_path: Path) -> None:
    text = unit(tmp_path, "/srv/a b/100%").read_text()
    assert root_and_user(text) == (Path("/srv/a b/100%"), "mli")
    assert root_and_user(text.replace("# Written", "# Copied")) is None


def test_the_core_is_started_without_the_users_own_python_settings() -> None:
    assert start_arguments("/opt/mli/bin/python", Path("/x")) == [
        *("/opt/mli/bin/python", "-I", "-m", "mli", "core", "start", "--root", "/x")
    ]


def test_only_a_camera_opens_devices(tmp_path: Path) -> None:
    assert "PrivateDevices=yes" in unit(tmp_path).read_text()
    with_camera = unit(tmp_path, camera=True).read_text()
    assert "PrivateDevices" not in with_camera
    assert "DevicePolicy=closed\nDeviceAllow=char-video4linux rw\nSupplementaryGroups=video\n" in with_camera


def test_only_a_newer_systemd_is_asked_to_wait_longer_each_time() -> None:
    settings = UnitSettings(sys.executable, Path("/x"), systemd_version=253)
    assert "RestartSteps" not in unit_text(settings)
    settings = UnitSettings(sys.executable, Path("/x"), systemd_version=254)
    assert "RestartSteps=5\nRestartMaxDelaySec=60\n" in unit_text(settings)


def test_old_control_groups_are_given_to_the_service_by_root() -> None:
    settings = UnitSettings(sys.executable, Path("/x"), user="press", old_groups=True)
    own = "/sys/fs/cgroup/memory/system.slice/mli.service"
    text = unit_text(settings)
    assert f"ExecStartPre=-+/bin/chown press {own} {own}/cgroup.procs {own}/tasks\n" in text
    assert f"ReadWritePaths=-/sys/fs/cgroup/system.slice/mli.service -{own}\n" in text
