"""The way to the broker, step by step: its name, its port, TLS, the login, and what it lets this thing do."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import replace

from mli.config.settings import MqttSettings, TlsSettings
from mli.core.doctor.finding import Verdict, fail, ok, skipped, warn
from mli.core.doctor.knocking import Knock, knock
from mli.core.doctor.patient import Patient
from mli.core.topics import deployment_topic
from mli.delivery.sinks.mqtt_options import describe_connect_error, tls_context

AWS_PORT = 443
AWS_ALPN = "x-amzn-mqtt-ca"
_MOST_WAIT_S = 5.0
_NO_BROKER = "there is no broker"
_SHOWN_ADDRESSES = 3
_CLIENT_ID_REFUSALS = (133, 135)


def check_name(patient: Patient) -> Verdict:
    """The broker's name has an address."""
    broker = patient.broker()
    if broker is None:
        return skipped(_NO_BROKER)
    try:
        found = socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return fail(
            f"{broker.host}: the name cannot be resolved: {told}",
            "check the host in `mqtt` (iotHost), and the network: `resolvectl query NAME`, /etc/resolv.conf",
        )
    addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
    more = f" and {len(addresses) - _SHOWN_ADDRESSES} more" if len(addresses) > _SHOWN_ADDRESSES else ""
    return ok(f"{broker.host} is {', '.join(addresses[:_SHOWN_ADDRESSES])}{more}")


def check_port(patient: Patient) -> Verdict:
    """Something listens there."""
    broker = patient.broker()
    if broker is None:
        return skipped(_NO_BROKER)
    try:
        with socket.create_connection((broker.host, broker.port), _wait_s(broker)) as connection:
            return ok(f"connected to {broker.host}:{broker.port} from {connection.getsockname()[0]}")
    except OSError as error:
        refused = isinstance(error, ConnectionRefusedError)
        told = describe_connect_error(error, replace(broker, connect_timeout_s=_wait_s(broker)))
        return fail(
            told,
            "start the broker, or correct the port in `mqtt` (iotMqttPort)"
            if refused
            else f"let this device out to port {broker.port}: firewall, routes, cable; AWS IoT is there on 443 too",
        )


def check_tls(patient: Patient) -> Verdict:
    """A handshake as the core makes it: the broker's certificate is trusted and for this name, and it takes ours."""
    broker = patient.broker()
    if broker is None or broker.tls is None:
        return skipped(_NO_BROKER if broker is None else "the broker is spoken to without TLS")
    if broker.port == AWS_PORT and broker.tls.alpn is None and broker.host.endswith("amazonaws.com"):
        return fail(
            f"{broker.host}:443 speaks MQTT only to those who ask for it by ALPN",
            f"set `mqtt: {{tls: {{alpn: {AWS_ALPN}}}}}`",
        )
    context = tls_context(broker.tls)
    told = ""
    try:
        with (
            socket.create_connection((broker.host, broker.port), _wait_s(broker)) as plain,
            context.wrap_socket(plain, server_hostname=broker.host) as secure,
        ):
            chosen = secure.selected_alpn_protocol()
            told = f"{secure.version()}, the broker's certificate is trusted and for {broker.host}"
            # TLS 1.3 refuses a client's certificate only after its own handshake, at the first byte.
            secure.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                secure.recv(1)
    except OSError as error:
        return _tls_failure(error, broker, broker.tls, established=bool(told))
    if broker.tls.alpn is not None and chosen != broker.tls.alpn:
        return warn(
            f"{told}, but it does not answer to ALPN {broker.tls.alpn!r}",
            "leave `alpn` out; if this is AWS IoT on port 443, something in between takes the connection apart",
        )
    return ok(told + (f", ALPN {chosen}" if chosen else ""))


def check_login(patient: Patient) -> Verdict:
    """CONNECT, as the core does it; with an id of its own while a core uses the thing's."""
    broker = patient.broker()
    if broker is None:
        return skipped(_NO_BROKER)
    client_id = patient.knocking_id()
    own = client_id == broker.client_id
    found = knock(broker, client_id, stay=own)
    if found.accepted:
        return ok(f"{found.protocol} accepted client id {client_id}" + ("" if own else "; the core uses its own"))
    if found.taken_over:
        return fail(
            f"another client connects with the id {client_id}; each ends the other's connection ({found.refusal})",
            "stop the other one, such as an old Greengrass core of the same thing, or set `mqtt: {client_id: …}`",
        )
    core_is_in = bool(((patient.status or {}).get("broker") or {}).get("connected"))
    if not own and core_is_in and found.code in _CLIENT_ID_REFUSALS:
        return warn(
            f"the broker refuses the id {client_id}: {found.refusal}; the running core's own cannot be tried now",
            "see `connection`, or stop the core and run `mli doctor` again",
        )
    return fail(f"the broker refused the connection of {client_id}: {found.refusal}", _login_remedy(found, broker))


def check_subscription(patient: Patient) -> Verdict:
    """The broker lets the thing hear of its deployments."""
    wanted, device = patient.wanted.read(patient), patient.device
    if wanted is None or device is None:
        return skipped(_NO_BROKER)
    topic = deployment_topic(device.thing)
    if wanted.knock.code is not None:
        return skipped("the broker refuses this id")
    granted = wanted.knock.subscribed.get(topic)
    if granted:
        return ok(f"may subscribe to {topic}")
    if granted is False:
        return fail(
            f"the broker refuses the subscription to {topic}: no deployment will arrive",
            f"allow it in the broker's access list (AWS IoT: iot:Subscribe on topicfilter/{topic}, iot:Receive on "
            f"topic/{topic})",
        )
    return fail(
        f"the broker gave no answer to the subscription to {topic}: {wanted.knock.refusal or 'silence'}",
        "AWS IoT closes the connection where its policy lacks iot:Subscribe on this topic filter",
    )


def check_connection(patient: Patient) -> Verdict:
    """The running core's own connection: made, subscribed, and with all that it asks for."""
    broker = (patient.status or {}).get("broker")
    if not isinstance(broker, dict):
        return skipped("no core runs that could tell")
    endpoint = broker.get("endpoint")
    if not broker.get("connected"):
        return fail(
            f"the core is not connected to {endpoint}: {broker.get('last_error') or 'no reason is known yet'}",
            "see the lines above for the cause; predictions are kept meanwhile",
        )
    if broker.get("left_out") and (patient.status or {}).get("handed_on"):
        return fail(
            f"the nucleus does not publish everything: {'; '.join(broker['left_out'])}",
            "deploy the component with these lines in its configuration",
        )
    if broker.get("left_out"):
        return fail(
            f"the broker does not allow: {'; '.join(broker['left_out'])}",
            "allow it in the broker's access list (AWS IoT: iot:Subscribe and iot:Receive for mli/deployments/…, "
            "iot:Publish and iot:RetainPublish for mli/status/…)",
        )
    if broker.get("subscribed") is False:
        return warn(f"connected to {endpoint}, not subscribed yet", "wait a moment, and look again")
    subscribed = " and subscribed" if broker.get("subscribed") else ""
    return ok(f"the core is connected to {endpoint} ({broker.get('protocol')}){subscribed}")


def _wait_s(broker: MqttSettings) -> float:
    return min(_MOST_WAIT_S, broker.connect_timeout_s)


def _login_remedy(found: Knock, broker: MqttSettings) -> str:
    if found.code == 134:
        return "check `mqtt: {username, password}`; the password may be in secrets/: `password: secret:NAME`"
    if found.code in _CLIENT_ID_REFUSALS or (found.code is None and broker.tls is not None):
        return (
            f"let this client in: AWS IoT wants an active certificate with a policy that allows iot:Connect as "
            f"client/{broker.client_id}; another broker has an access list or a password"
        )
    return "see the broker's own log for the reason"


def _tls_failure(error: OSError, broker: MqttSettings, tls: TlsSettings, *, established: bool) -> Verdict:
    told = describe_connect_error(error, broker)
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (62, 64):
            return fail(
                f"{told}; it is for {_shown_names(broker, tls)}",
                "name the broker in `mqtt` by a name in its certificate",
            )
        if error.verify_code in (9, 10):  # X509_V_ERR_CERT_NOT_YET_VALID, …_HAS_EXPIRED
            return fail(told, "check this machine's clock; else the broker needs a new certificate")
        return fail(
            f"{told}; {_shown_issuer(broker, tls)}",
            "take the authority that signed the broker's certificate for `mqtt: {tls: {ca: …}}` (caPath): "
            "AmazonRootCA1.pem for AWS IoT",
        )
    reason = getattr(error, "reason", None) or ""
    if "ALERT" in reason or established:
        return fail(
            f"{told}; the broker ends the handshake: it does not take this device's certificate",
            "register the certificate with the broker and make it active; check that it has not expired",
        )
    return fail(
        f"no TLS with {told}",
        "check that this port speaks TLS (8883, or 443 with ALPN), and that nothing in between intercepts it",
    )


def _shown_issuer(broker: MqttSettings, tls: TlsSettings) -> str:
    certificate = _shown_certificate(broker, tls)
    if certificate is None:
        return "its certificate could not be read"
    from cryptography import x509

    from mli.core.certificates import facts_of

    facts = facts_of(x509.load_der_x509_certificate(certificate))
    return f"it shows {facts.subject}, signed by {facts.issuer}"


def _shown_names(broker: MqttSettings, tls: TlsSettings) -> str:
    certificate = _shown_certificate(broker, tls)
    if certificate is None:
        return "another name"
    from cryptography import x509

    found = x509.load_der_x509_certificate(certificate)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return found.subject.rfc4514_string()
    return ", ".join(str(name.value) for name in names)


def _shown_certificate(broker: MqttSettings, tls: TlsSettings) -> bytes | None:
    """What the broker shows, trusted or not; nothing is sent over this connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if tls.alpn:
        context.set_alpn_protocols([tls.alpn])
    try:
        with (
            socket.create_connection((broker.host, broker.port), _wait_s(broker)) as plain,
            context.wrap_socket(plain, server_hostname=broker.host) as secure,
        ):
            return secure.getpeercert(binary_form=True)
    except OSError:
        return None
