"""The TLS side of an MQTT connection, checked before anything starts, and what brokers' answers mean."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

from paho.mqtt.reasoncodes import ReasonCode

from mli.config.settings import MqttSettings, TlsSettings
from mli.delivery.sinks.paho_errors import alert_hint
from mli.errors import StopError

UNSUPPORTED_PROTOCOL = 132
SESSION_TAKEN_OVER = 142
RETRYABLE_FROM = 128

# Answers to one PUBLISH that would be the same tomorrow.
PERMANENT_PUBLISH_CODES = frozenset({144, 149, 153, 155})

TWIN_REMEDY = (
    "stop the other one, or give this device a name of its own. On a device that ran the accelerator it may be the "
    "old Greengrass core: systemctl disable --now greengrass"
)

MEANINGS = {
    128: "unspecified error",
    129: "malformed packet",
    130: "protocol error",
    131: "implementation specific error",
    132: "unsupported protocol version",
    133: "client identifier not valid",
    134: "bad user name or password",
    135: "not authorized",
    136: "server unavailable",
    137: "server busy",
    138: "banned",
    139: "server shutting down",
    140: "bad authentication method",
    141: "keep alive timeout",
    142: "session taken over: another client connected with the same client id",
    144: "topic name invalid",
    147: "receive maximum exceeded",
    149: "packet too large",
    150: "message rate too high",
    151: "quota exceeded",
    152: "administrative action",
    153: "payload format invalid",
    154: "retain not supported",
    155: "QoS not supported",
    156: "use another server",
    157: "server moved",
    159: "connection rate exceeded",
}


def meaning(code: int) -> str:
    """A broker's reason code in words."""
    return f"{MEANINGS.get(code, 'refused')} (reason {code})"


def connect_code(reason: ReasonCode) -> int:
    """A CONNACK's reason by the numbers of MQTT 5, 0 where the broker accepts.

    Smaller ones than the refusals of MQTT 5 are those of 3.1.1: what answers so does not speak MQTT 5.
    """
    code = int(reason.value)
    return UNSUPPORTED_PROTOCOL if 0 < code < RETRYABLE_FROM else code


def _take_any(reason: ReasonCode, buffer: bytes | bytearray) -> int:
    reason.value = buffer[0]
    return 1


def _name_any(reason: ReasonCode) -> str:
    try:
        return reason.__getName__(reason.packetType, reason.value)
    except (KeyError, AssertionError):
        return meaning(reason.value)


# paho ends the connection at a reason that MQTT 5 does not know for that packet. Brokers send such: mosquitto answers
# 149 to a publish over its message_size_limit, and would get the same message again after each connection.
ReasonCode.unpack = _take_any  # type: ignore[assignment, method-assign]
ReasonCode.getName = _name_any  # type: ignore[assignment, method-assign]


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer, with the host name checked.

    Raises:
        StopError: a file is missing, unreadable or not PEM, or the key does not fit the certificate; it is named.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = True
    if tls.ca_path is None:
        context.load_default_certs()
    else:
        _load_ca(context, tls.ca_path)
    if (tls.certificate_path is None) != (tls.private_key_path is None):
        raise StopError(
            "A client certificate and its private key go together; only one is set.",
            where=tls.certificate_path or tls.private_key_path,
            remedy="set both mqtt.tls certificate and private key, or neither",
        )
    if tls.certificate_path is not None and tls.private_key_path is not None:
        _load_client_certificate(context, tls.certificate_path, tls.private_key_path)
    if tls.alpn:
        context.set_alpn_protocols([tls.alpn])
    return context


def _load_ca(context: ssl.SSLContext, path: str) -> None:
    _read(path, "CA certificate")
    try:
        context.load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError) as error:
        raise _not_pem(path, "CA certificate", error) from error


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    if b"-----BEGIN CERTIFICATE" not in _read(certificate, "client certificate"):
        raise _not_pem(certificate, "client certificate", None)
    text = _read(key, "private key")
    if b"PRIVATE KEY-----" not in text:
        raise _not_pem(key, "private key", None)
    if b"ENCRYPTED" in text:
        raise StopError(
            "The private key has a pass phrase, and nobody is there to type it.",
            where=key,
            expected="a private key without a pass phrase, readable by this user alone",
            remedy="openssl pkey -in KEY -out NEW_KEY",
        )
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        if "MISMATCH" in str(error).upper():
            raise StopError(
                "The private key does not belong to the client certificate.",
                where=key,
                expected=f"the key that {certificate} was made with",
                got=error.reason or str(error),
                remedy="use the two files of one pair",
            ) from error
        raise _not_pem(f"{certificate}, {key}", "client certificate or its private key", error) from error


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StopError(
            f"The {what} cannot be read.",
            where=path,
            got=error.strerror or str(error),
            remedy="check the path in mqtt.tls and the file's permissions",
        ) from error


def _not_pem(path: str, what: str, error: Exception | None) -> StopError:
    return StopError(
        f"The {what} is not a PEM file that can be used.",
        where=path,
        expected="PEM: a text with -----BEGIN … and -----END … lines",
        got=str(error) if error else "no such lines",
        remedy="check that mqtt.tls names the right file; DER files are converted by openssl x509 -inform der",
    )


def describe_connect_error(error: OSError, settings: MqttSettings) -> str:
    """Why a connection was not made, in one line that names what to look at."""
    address = f"{settings.host}:{settings.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH
            return f"{address}: the broker's certificate is for another name: {error.verify_message.rstrip('.')}"
        if error.verify_code in (9, 10):  # X509_V_ERR_CERT_NOT_YET_VALID, …_HAS_EXPIRED
            clock = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
            return f"{address}: by this machine's clock ({clock}) the broker's {error.verify_message}"
        ca = settings.tls.ca_path if settings.tls and settings.tls.ca_path else "the system's trust store"
        return f"{address}: the broker's certificate is not trusted by {ca}: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"{address}: TLS failed: {error.reason or error}" + _tls_hint(error)
    if isinstance(error, socket.gaierror):
        return f"{settings.host}: the name cannot be resolved: {error.strerror or error}"
    if isinstance(error, ConnectionRefusedError):
        return f"{address}: connection refused: nothing listens there"
    if isinstance(error, TimeoutError):
        return f"{address}: no answer within {settings.connect_timeout_s:g} s"
    return f"{address}: {error.strerror or error}"


def _tls_hint(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return " (does this port speak TLS?)"
    return alert_hint(reason)
