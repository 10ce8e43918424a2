"""By which certificate a device shows itself to the broker: what AWS IoT calls the certificate's id."""

from __future__ import annotations

import hashlib
import re
import ssl
from pathlib import Path

from mli.config.settings import MqttSettings

_FIRST = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


def own_certificate_id(mqtt: MqttSettings | None) -> str | None:
    """sha256 of the device's own certificate in its DER form, hexadecimal; None where it shows none.

    A file that cannot be read says nothing here: the connection, which reads it next, tells why.
    """
    path = None if mqtt is None or mqtt.tls is None else mqtt.tls.certificate_path
    if path is None:
        return None
    try:
        found = _FIRST.search(Path(path).read_text(encoding="ascii", errors="replace"))
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found[0])).hexdigest() if found else None
    except (OSError, ValueError):
        return None
