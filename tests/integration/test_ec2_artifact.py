"""The EC2 core's script with an artifact as ``mli stack package --component`` builds it, of small wheels."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from tests.fixtures.ec2_machine import S3, SECRETS, SIGNALS, STUBS, Answer, Machine
from tests.fixtures.ec2_stack import BUCKET, KEY, user_data
from tests.fixtures.small_wheels import IMPORTED, MACHINE, locked, pip_wheel, small_wheel

from mli.cloud import component_package
from mli.cloud.component_wheels import default_cache, fetch

SYSTEM_PYTHON = "/usr/bin/python3"
# In place of mli: it writes down what it is asked, and where it runs.
MAIN = """
import json, sys

def run():
    with open("/world/calls", "a") as calls:
        print("mli", *sys.argv[1:], "by", sys.prefix, file=calls)
    if sys.argv[1] == "core":
        print(json.dumps({"broker": {"connected": True}}))
"""


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For the system's Python, which is what the machine has."""
    cache = tmp_path / "cache"
    cache.mkdir()
    ask = "import sys; print(f'{sys.version_info.major}.{sys.version_info.minor}')"
    python = subprocess.run([SYSTEM_PYTHON, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    target = f"{MACHINE}-cp{python.replace('.', '')}"
    pip = pip_wheel()
    fetch([pip], [target], default_cache(), lambda *_: None)
    (cache / pip.file).symlink_to(default_cache() / pip.file)
    wheels = [pip, *(locked(small_wheel(cache, one)) for one in IMPORTED)]
    monkeypatch.setattr(component_package, "locked_wheels", lambda: tuple(wheels))
    monkeypatch.setattr(component_package, "write_own_wheel", own_wheel)
    return component_package.build(tmp_path / "out", [MACHINE], [python], cache=cache).artifact


def own_wheel(folder: Path) -> Path:
    wheel = small_wheel(folder, "mli", version="0.1.0")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(zipfile.ZipInfo("mli/__main__.py"), MAIN)
        archive.writestr(
            zipfile.ZipInfo("mli-0.1.0.dist-info/entry_points.txt"), "[console_scripts]\nmli = mli.__main__:run\n"
        )
    return wheel


def test_it_is_installed_from_the_artifact_alone_and_makes_the_service(tmp_path: Path, artifact: Path) -> None:
    bundle = tmp_path / "bundle.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("config/config.json", "{}")
    secret = json.dumps({"SecretBinary": base64.b64encode(bundle.read_bytes()).decode()}).encode()
    answers = {
        f"{S3}/{BUCKET}/{KEY}": [Answer(artifact.read_bytes())],
        f"{SECRETS}/": [Answer(secret)],
        f"{SIGNALS}/": [Answer()],
    }
    (tmp_path / "machine" / "world").mkdir(parents=True)
    script = user_data(ArtifactKey=KEY, ArtifactSha256=hashlib.sha256(artifact.read_bytes()).hexdigest())
    done = Machine(tmp_path / "machine", answers, STUBS).boot(script)
    assert done.code == 0, done.output
    asked = [call.partition(" by ") for call in done.calls if call.startswith("mli ")]
    assert [call for call, _, _ in asked] == [
        "mli device install --root /var/lib/mli",
        "mli core status --json --root /var/lib/mli",
    ]
    assert all(where.startswith("/opt/mli/environments/") for _, _, where in asked)
    assert [signal["Status"] for signal in done.signals] == ["SUCCESS"]
    assert (done.root / "local" / "mli").readlink() == Path("/opt/mli/bin/mli")
