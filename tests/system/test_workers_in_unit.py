"""Workers under the bounds of the unit that ``mli device install`` writes, on a real systemd."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.booted_system import PYTHON, BootedSystem

from mli.core.service.unit import OLD_GROUPS, UNIT_NAME, UnitSettings, unit_text

ROOT = Path("/var/lib/mli")
SCRIPT = "/opt/checkout/tests/system/worker_service.py"


@pytest.mark.parametrize("containers", [True, False])
def test_a_model_works_in_each_mode_that_the_unit_allows(system: BootedSystem, containers: bool) -> None:
    system.run("useradd", "--system", "mli")
    system.run("install", "-d", "-o", "mli", "-g", "mli", "-m", "751", ROOT)
    command = shlex.join([PYTHON, "-I", SCRIPT, f"{ROOT}/found.json"])
    unit = unit_text(UnitSettings(PYTHON, ROOT, containers=containers, old_groups=system.path(OLD_GROUPS).exists()))
    text = unit.replace("\nExecStart=", f"\nExecStart={command}\n#").replace("Restart=always", "Restart=no")
    system.path(f"/etc/systemd/system/{UNIT_NAME}").write_text(text)
    system.run("systemctl", "daemon-reload")
    started = system.run("systemctl", "start", "mli", check=False)
    assert started.returncode == 0, system.run("journalctl", "--no-pager", "-u", "mli").stdout
    found: dict[str, Any] = json.loads(system.path(f"{ROOT}/found.json").read_text())
    assert found["none"] | {"how": ""} == {
        "kind": "none",
        "how": "",
        "records": 3,
        "source_ended": True,
        "out_of_memory": False,
        "error": "None",
    }
    assert found["auto"]["source_ended"], found["auto"]
    assert found["small"]["out_of_memory"], found["small"]
    assert found["memory"] in ("cgroup v1", "cgroup v2"), found["why not the kernel"]
    assert found["hog"]["code"] == -9
    assert found["hog"]["ended"]["own_fault"]
    if containers:
        assert found["auto"] == found["container"]
        assert found["container"]["kind"] == "container"
        assert found["container"]["records"] == 3
    else:
        assert found["auto"]["kind"] == "none"
        refused = found["container"]["refused"]
        assert "something that started this process forbids it namespaces or mounts" in refused
        assert "`mli device install` writes such a unit" in refused
