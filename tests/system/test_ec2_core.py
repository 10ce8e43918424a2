"""The EC2 core's script on a real systemd, with the real mli: AWS alone is played."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.fixtures import ec2_world
from tests.fixtures.booted_system import PYTHON, BootedSystem
from tests.fixtures.brokers import Certificates, Mosquitto
from tests.fixtures.ec2_machine import S3, SECRETS, SIGNALS, Answer, asked_in, hosts, lay_out, signals_in
from tests.fixtures.ec2_stack import BUCKET, KEY, user_data

from mli.core.bundle_request import BundleRequest
from mli.core.device_bundle import write_bundle

# mli is in the system already, so its artifact only makes the command.
INSTALL = f"""
printf '#!/bin/sh\\nexec {PYTHON} -I -m mli "$@"\\n' >"$1/bin/mli"
chmod 755 "$1/bin/mli"
"""


def bundle(folder: Path, certificates: Certificates, port: int) -> bytes:
    names = ("press-4", "localhost", certificates.client, certificates.client_key, certificates.ca)
    made = folder / "greengrass-setup.zip"
    write_bundle(BundleRequest(*names, port=port), made)
    return made.read_bytes()


def test_a_machine_becomes_a_core_that_is_connected(
    system: BootedSystem,
    certificates: Certificates,
    make_mosquitto: Callable[..., Mosquitto],
    tmp_path: Path,
) -> None:
    broker = make_mosquitto(certificates=certificates)
    artifact = tmp_path / "artifact.zip"
    with zipfile.ZipFile(artifact, "w") as archive:
        archive.writestr("install.sh", INSTALL)
    secret = {"SecretBinary": base64.b64encode(bundle(tmp_path, certificates, broker.port)).decode()}
    script = user_data(ArtifactKey=KEY, ArtifactSha256=hashlib.sha256(artifact.read_bytes()).hexdigest())
    world = system.path("/world")
    lay_out(
        world,
        script,
        {
            f"{S3}/{BUCKET}/{KEY}": [Answer(artifact.read_bytes())],
            f"{SECRETS}/": [Answer(json.dumps(secret).encode())],
            f"{SIGNALS}/": [Answer()],
        },
        {"apt-get": ""},
    )
    shutil.copy(ec2_world.__file__, world / "ec2_world.py")
    system.path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{hosts()}")
    shutil.copy(world / "ca.pem", system.path("/etc/ssl/certs/ca-certificates.crt"))

    # Its own network holds what is played; the service's is this machine's, where the broker is.
    path = "PATH=/world/stubs:/usr/local/bin:/usr/sbin:/usr/bin"
    done = system.run(
        *("unshare", "--net", "env", path, "/usr/bin/python3", "-I", "/world/ec2_world.py", "/world"), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [signal["Status"] for signal in signals_in(asked_in(world))] == ["SUCCESS"]

    status = json.loads(system.run("mli", "core", "status", "--json").stdout)
    assert status["thing"] == "press-4"
    assert status["broker"]["connected"] is True
    unit = system.run("systemctl", "show", "mli.service", "--property=ActiveState,UnitFileState,IPAddressDeny").stdout
    assert "ActiveState=active" in unit
    assert "UnitFileState=enabled" in unit
    assert "169.254.169.254/32" in unit
    owner = system.run("stat", "-c", "%U:%G %a", "/var/lib/mli/certs/thing.private.key").stdout.strip()
    assert owner == "mli:mli 400"
