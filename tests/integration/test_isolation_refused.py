"""Where no container can be had: what then runs, and what a person is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fixtures.worker_lives import Life, make_place

from mli.core.isolation.isolator import Isolator
from mli.core.isolation.trial import INSTALL, Containers, NoContainers, explain, try_containers
from mli.errors import RetryError, StopError

NONE = NoContainers("bubblewrap is not installed", None, INSTALL)
TRY = """
import json
from mli.core.isolation.isolator import Isolator
from mli.errors import StopError
isolator = Isolator()
isolation = isolator.resolve("auto")
answer = {"kind": isolation.kind, "why": isolation.why_not, "how": str(isolation.how)}
try:
    isolator.resolve("container")
except StopError as error:
    answer |= {"error": error.what, "got": error.got, "remedy": error.remedy}
print(json.dumps(answer))
"""


def tried(*before: str) -> dict[str, str]:
    """What a process comes to that was started with ``before``."""
    done = subprocess.run([*before, sys.executable, "-c", TRY], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_auto_runs_without_a_container_and_says_why(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    life = Life(place.settings("auto"), place.model, Isolator(containers=NONE))
    assert life.run().source_ended
    assert life.worker.isolation.kind == "none"
    assert life.worker.isolation.why_not == "bubblewrap is not installed"


def test_container_never_degrades(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    with pytest.raises(StopError) as refused:
        Life(place.settings("container"), place.model, Isolator(containers=NONE))
    assert refused.value.what == "a pipeline cannot run in a container: bubblewrap is not installed"
    assert "apt install bubblewrap" in str(refused.value.remedy)


def test_a_device_that_wants_containers_takes_nothing_else() -> None:
    device = Isolator(minimum="container")
    assert device.resolve("auto").kind == device.resolve("container").kind == "container"
    with pytest.raises(StopError, match="in containers only"):
        device.resolve("none")
    with pytest.raises(StopError, match="cannot run in a container") as refused:
        Isolator(minimum="container", containers=NONE).resolve("auto")
    assert refused.value.expected == "min_isolation: container"


def test_bubblewrap_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert try_containers.__wrapped__() == NONE


def test_root_can_do_without_user_namespaces() -> None:
    found = tried(
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"',
        "sh",
    )
    assert found["kind"] == "container"
    assert "without a user namespace" in found["how"]


def test_forbidden_user_namespaces_are_told() -> None:
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
    found = tried("unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh")
    assert found["kind"] == "none"
    why = "user namespaces are forbidden on this device (user.max_user_namespaces is 0)"
    assert found["why"] == f"{why}: {found['got']}"
    assert found["error"] == f"a pipeline cannot run in a container: {why}"
    assert found["got"].startswith("bwrap: ")
    assert found["remedy"] == "sysctl user.max_user_namespaces=10000"


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "bwrap-userns-restrict"),
    ],
)
def test_what_a_distribution_forbids_is_told(tmp_path: Path, setting: str, value: str, remedy: str) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / setting).write_text(f"{value}\n")
    found = explain("bwrap: setting up uid map: Permission denied", tmp_path)
    assert f"({setting.replace('/', '.')} is {value})" in found.why
    assert remedy in found.remedy
    (tmp_path / setting).write_text(f"{1 - int(value)}\n")
    assert "cannot make a container" in explain("bwrap: no", tmp_path).why


def test_a_device_whose_proc_is_partly_covered_still_has_containers() -> None:
    """As systemd's ProtectKernelTunables= covers it; then no new /proc may be mounted."""
    cover = "mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys"
    as_user = 'exec unshare --user --map-user=1000 --map-group=1000 "$@"'
    found = tried("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f"{cover}; {as_user}", "sh")
    assert found["kind"] == "container"
    assert "without a /proc of its own" in found["how"]


def test_a_container_that_cannot_be_made_is_no_fault_of_the_model(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    found = try_containers()
    assert isinstance(found, Containers)
    broken = Containers("/usr/bin/false", found.version, found.variant)
    with pytest.raises(RetryError, match="a container could not be started"):
        Life(place.settings("container"), place.model, Isolator(containers=broken))
