"""The services that the way needs, behind the names and ports that they have at AWS.

S3 is swift, the control plane (CloudFormation, IoT's registry, IAM, STS) is moto with corrections, IoT Core and its
credentials provider are ``tests/fixtures/iot_core.py``. What each does not prove stands in docs/rehearsal.md.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from tests.fixtures.brokers import Certificates, issue_certificate, make_certificates
from tests.fixtures.cfn_resolve import resolve
from tests.fixtures.iot_core import ALPN, IotCore, close_door
from tests.fixtures.iot_credentials import GivenKeys
from tests.fixtures.iot_registry import ControlPlaneRegistry
from tests.fixtures.iot_signatures import Keys
from tests.fixtures.moto_server import MotoServer
from tests.fixtures.swift_server import ACCESS_KEY, REGION, SECRET_KEY, SwiftServer

_NAMES = [
    "*.amazonaws.com",
    "*.{region}.amazonaws.com",
    "*.s3.{region}.amazonaws.com",
    "*.s3.amazonaws.com",
    "*.iot.{region}.amazonaws.com",
    "*.credentials.iot.{region}.amazonaws.com",
]
HTTPS, MQTTS = 443, 8883


class LittleAws:
    """One account in one region, for who is inside a world of its own."""

    def __init__(self, folder: Path, certificates: Certificates, swift: SwiftServer, moto: MotoServer) -> None:
        self.ca = certificates.ca
        self.swift = swift
        self.moto = moto
        registry = ControlPlaneRegistry(moto.client("iot"))
        me = Keys(ACCESS_KEY, SECRET_KEY, operator_policies())
        (folder / "iot").mkdir()
        given = GivenKeys("mli-device", ACCESS_KEY, SECRET_KEY)
        self.iot = IotCore(folder / "iot", certificates, registry, [me], given)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "aws.pem", folder / "aws.key")
        self._context.load_verify_locations(certificates.ca)
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self._context.set_alpn_protocols([ALPN, "http/1.1"])
        self._context.sni_callback = _note_name
        self.asked: dict[str, int] = {}
        self._buckets: set[str] = set()
        self._control = moto.client("s3")
        self._lock = threading.Lock()
        self._doors: list[socket.socket] = []

    def environment(self) -> dict[str, str]:
        """What a command finds, as a person's shell with a profile has it."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_CONFIG_FILE": str(self.profile / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.profile / "credentials"),
            "AWS_CA_BUNDLE": str(self.ca),
            "AWS_PAGER": "",
            "AWS_EC2_METADATA_DISABLED": "true",
            "SSL_CERT_FILE": str(self.ca),
        }

    @property
    def profile(self) -> Path:
        """A folder as ``~/.aws``."""
        return self.ca.parent

    def write_profile(self) -> None:
        """A default profile with keys and a region."""
        keys = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        (self.profile / "credentials").write_text(f"[default]\n{keys}")
        (self.profile / "config").write_text(f"[default]\nregion = {REGION}\noutput = json\n")

    def start(self) -> None:
        """Listen where AWS listens."""
        self.write_profile()
        self.iot.start()
        for port in (HTTPS, MQTTS):
            door = socket.create_server(("127.0.0.1", port))
            self._doors.append(door)
            threading.Thread(target=self._accept, args=(door, port), daemon=True).start()

    def stop(self) -> None:
        """The ports are free for the next one."""
        for door in self._doors:
            close_door(door)
        self.iot.stop()

    def make_buckets(self) -> None:
        """What CloudFormation made in moto is made in swift, which holds the objects."""
        with self._lock:
            there = {one["Name"] for one in self._control.list_buckets()["Buckets"]}
            for name in there - self._buckets:
                self.swift.make_bucket(name)
            self._buckets |= there

    def _accept(self, door: socket.socket, port: int) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                plain, _ = door.accept()
                threading.Thread(target=self._greet, args=(plain, port), daemon=True).start()

    def _greet(self, plain: socket.socket, port: int) -> None:
        suppress = contextlib.suppress(OSError, EOFError)
        with plain, suppress, self._context.wrap_socket(plain, server_side=True) as secure:
            service = service_of(str(getattr(secure, "asked_name", "")))
            self.asked[service] = self.asked.get(service, 0) + 1
            if port == MQTTS:
                self.iot.serve_mqtt(secure)
            elif service == "iot-data":
                self.iot.serve_https(secure)
            elif service == "iot-credentials":
                self.iot.serve_credentials(secure)
            else:
                if service == "s3":
                    self.make_buckets()
                target = self.swift.port if service == "s3" else self.moto.port
                with socket.create_connection(("127.0.0.1", target)) as behind:
                    threading.Thread(target=_copy, args=(secure, behind), daemon=True).start()
                    _copy(behind, secure)


def operator_policies() -> tuple[Mapping[str, Any], ...]:
    """The rights of the daily work, as the template gives them; IoT Core holds the walk to them."""
    template = (files("mli.cloud") / "templates" / "operator.yaml").read_text(encoding="utf-8")
    return (resolve(template, region=REGION).resources["Devices"].properties["PolicyDocument"],)


def service_of(name: str) -> str:
    """Which service a host of AWS is: ``s3``, ``iot-data``, ``iot-credentials``, else the first part of its name."""
    first, _, rest = name.partition(".")
    if first.startswith("s3") or rest.startswith("s3."):
        return "s3"
    if rest.startswith("credentials.iot."):
        return "iot-credentials"
    return "iot-data" if rest.startswith("iot.") else first


def _note_name(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
    connection.asked_name = name or ""  # type: ignore[union-attr]


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def open_little_aws(folder: Path) -> Iterator[LittleAws]:
    """Start everything; it ends with the context."""
    certificates = make_certificates(folder)
    names = ",".join(f"DNS:{name.format(region=REGION)}" for name in _NAMES)
    issue_certificate(folder, "aws", names)
    with ExitStack() as stack:
        swift = SwiftServer(folder / "swift")
        stack.callback(swift.kill)
        moto = MotoServer(folder)
        stack.callback(moto.kill)
        moto.start()
        swift.start()
        aws = LittleAws(folder, certificates, swift, moto)
        stack.callback(aws.stop)
        aws.start()
        yield aws
