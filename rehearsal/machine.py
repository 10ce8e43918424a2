"""The machine of docs/ec2.md: a system of its own with systemd, which runs the user data that the stack gave it.

It is this machine's own Debian or Ubuntu, of its own architecture, with every change in memory. Real are the user
data, its downloads from the stand-ins, the artifact, the installation and the service; played are the metadata
service, which gives keys as the instance's role would, and apt-get.
"""

from __future__ import annotations

import base64
import io
import os
import shlex
from pathlib import Path

from tests.fixtures.booted_system import BootedSystem
from tests.fixtures.ec2_machine import metadata, play
from tests.fixtures.ec2_world import serve_metadata
from tests.fixtures.swift_server import ACCESS_KEY, SECRET_KEY

from rehearsal.little_aws import LittleAws
from rehearsal.walk import HOME

_NAMES = {
    "resolv.conf": "nameserver 127.0.0.1\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_PATH = "PATH=/world/stubs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def is_possible() -> bool:
    """A system of its own needs this machine's root, and systemd."""
    is_root = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    return is_root and os.geteuid() == 0 and Path("/lib/systemd/systemd").exists()


class Ec2Machine:
    """The instance that the stack made; ``start`` it, and ``end`` it."""

    def __init__(self, folder: Path, aws: LittleAws, instance: str) -> None:
        folder.mkdir()
        self._aws = aws
        self._instance = instance
        self._system = BootedSystem(folder, with_mli=False)

    def start(self) -> str:
        """Boot, and run the user data as cloud-init does at the first start; what they said.

        Raises:
            AssertionError: they failed.
        """
        serve_metadata(metadata(self._instance, ACCESS_KEY, SECRET_KEY), io.StringIO())
        self._system.boot()
        play(self._system.path("/world"), self._user_data(), {"apt-get": ""})
        for name, text in _NAMES.items():
            self._system.shell(f"rm -f /etc/{name}; printf %s {shlex.quote(text)} > /etc/{name}")
        trusted = self._system.path("/etc/ssl/certs/ca-certificates.crt")
        trusted.write_bytes(self._aws.ca.read_bytes())
        done = self._system.run("env", _PATH, "bash", "/world/user-data")
        return done.stdout + done.stderr

    def in_session(self, line: str) -> str:
        """A line typed in a session of Systems Manager, whose shell is on the machine.

        Raises:
            AssertionError: it failed.
        """
        return self._system.shell(line.replace("sudo ", ""))

    def bring(self, images: Path) -> None:
        """The images that play the camera, into the device's folder."""
        self._system.shell(f"mkdir -p {HOME}/images")
        for image in images.iterdir():
            (self._system.path(f"{HOME}/images") / image.name).write_bytes(image.read_bytes())

    def end(self) -> None:
        """As the stack's end does: at once, and nothing is left."""
        self._system.end()

    def _user_data(self) -> str:
        client = self._aws.moto.client("ec2")
        told = client.describe_instance_attribute(InstanceId=self._instance, Attribute="userData")
        return base64.b64decode(told["UserData"]["Value"]).decode()
