"""A device of the accelerator, and its account, as they are before anybody comes over (docs/migrate.md).

Played is the core of Greengrass V1: a program that publishes, under the device's certificate and on the accelerator's
topic, what its function would say. Nothing of Greengrass runs, and its stack has no handlers.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import CertificateSigningRequestBuilder, Name
from paho.mqtt.enums import CallbackAPIVersion
from tests.fixtures.color_model import numbered_images
from tests.fixtures.greengrass_v1 import BUCKET, CORE, ENDPOINT, MODEL, THING, device_folder, group_json
from tests.fixtures.greengrass_v1_account import attach_everything, make_old_stack
from tests.fixtures.swift_server import REGION

from rehearsal.greengrass_device import Certified
from rehearsal.little_aws import MQTTS, LittleAws

PHOTOS = 3
TOPIC = f"mli/predictions/{CORE}"
_OLD_REGION = "eu-west-1"  # of the fixtures
_PAUSE_S = 0.5


class OldDevice:
    """Made with all that the accelerator's stack and its handler leave; nothing runs on it yet.

    Args:
        folder: where its root is made.
        archive: the model in its bucket.
    """

    def __init__(self, folder: Path, aws: LittleAws, archive: Path) -> None:
        iot = aws.moto.client("iot")
        key = ec.generate_private_key(ec.SECP256R1())
        request = CertificateSigningRequestBuilder().subject_name(Name([])).sign(key, hashes.SHA256())
        pem = request.public_bytes(serialization.Encoding.PEM).decode()
        made = iot.create_certificate_from_csr(certificateSigningRequest=pem, setAsActive=True)
        self.certificate_id, self.certificate_arn = str(made["certificateId"]), str(made["certificateArn"])
        endpoint = iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
        provider = iot.describe_endpoint(endpointType="iot:CredentialProvider")["endpointAddress"]
        self.credentials_endpoint = str(provider)
        self._put_model(aws, archive)
        given = {"CoreName": CORE, "CertIdParam": self.certificate_id, "ModelS3Uri": here(MODEL)}
        make_old_stack(aws.moto.client("cloudformation"), given)
        self.policy = attach_everything(iot, THING, self.certificate_arn)
        self.root = device_folder(folder, group=group_json())
        self._fill(made["certificatePem"], key, str(endpoint), aws.ca)
        self.core = _OldCore(str(endpoint), self.root / "certs")

    @property
    def photos(self) -> Path:
        """Where the old function has them."""
        (found,) = self.root.glob("ggc/deployment/lambda/*/data_source/static_images/images")
        return found

    def _put_model(self, aws: LittleAws, archive: Path) -> None:
        aws.moto.client("s3").create_bucket(
            Bucket=here(BUCKET), CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        aws.make_buckets()
        aws.swift.put("inception-bn.zip", archive.read_bytes(), here(BUCKET))

    def _fill(self, certificate: str, key: ec.EllipticCurvePrivateKey, endpoint: str, ca: Path) -> None:
        """What differs from the fixture's folder: keys that work, this region, photos that are some."""
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.root / "certs" / "thing.cert.pem").write_text(certificate)
        (self.root / "certs" / "thing.private.key").write_bytes(private)
        (self.root / "certs" / "thing.private.key").chmod(0o600)
        (self.root / "certs" / "AmazonRootCA1.pem").write_bytes(ca.read_bytes())
        for name in ("config/config.json", "ggc/deployment/group/group.json"):
            text = (self.root / name).read_text().replace(ENDPOINT, endpoint)
            (self.root / name).write_text(here(text))
        for photo in self.photos.iterdir():
            photo.unlink()
        numbered_images(self.photos, PHOTOS)


def here(text: str) -> str:
    """A text of the fixtures, in the region of the rehearsal."""
    return text.replace(_OLD_REGION, REGION)


class _OldCore:
    """Says one photo after the other, again and again, while it is switched on."""

    def __init__(self, endpoint: str, certs: Path) -> None:
        self._endpoint, self._certs = endpoint, certs
        self._client: mqtt.Client | None = None
        self._off = threading.Event()

    def start(self, payloads: Sequence[Any]) -> None:
        """Connect, and publish these from now on; returns at once."""
        self._off = threading.Event()
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=THING)
        client.tls_set_context(Certified(self._certs).context("AmazonRootCA1.pem"))
        client.connect_async(self._endpoint, MQTTS)
        client.loop_start()
        threading.Thread(target=self._speak, args=(client, payloads, self._off), daemon=True).start()

    def stop(self) -> None:
        """As ``mli device install`` does it."""
        self._off.set()
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def _speak(self, client: mqtt.Client, payloads: Sequence[Any], off: threading.Event) -> None:
        for payload in itertools.cycle(payloads):
            if off.wait(_PAUSE_S):
                return
            if client.is_connected():
                client.publish(TOPIC, json.dumps(payload), qos=0)
