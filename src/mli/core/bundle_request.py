"""What a device's folder is made from: names, hosts and keys, checked one by one, with everything said at once."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from mli.config.fields import REGION, ROLE_ALIAS, THING
from mli.config.pem import normal_public_key
from mli.core.aws_endpoint import aws_host
from mli.errors import UsageError

MQTT_PORT, SHARED_PORT = 8883, 443
_ARN = re.compile(r"arn:aws[a-z-]*:iot:([a-z0-9-]*):(\d*):thing/(.+)")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_LARGEST_KEY_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """What goes into the folder.

    Attributes:
        thing: its name, or its ARN.
        endpoint: host of the broker.
        certificate, key, authorities: PEM files; each is copied as it is. The key is None where the device has it.
        region: of the model buckets; None follows each bucket's own.
        role_alias, credentials_endpoint: of the IoT credentials provider, where the device gets keys for buckets in
            exchange for its certificate.
        trust: PEM files of public keys whose holders may deploy.
    """

    thing: str
    endpoint: str
    certificate: Path
    key: Path | None
    authorities: Path
    port: int = MQTT_PORT
    region: str | None = None
    role_alias: str | None = None
    credentials_endpoint: str | None = None
    trust: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Names:
    """What a request says, checked.

    Attributes:
        arn: of the thing; region and account are empty where nobody said them, for only the name is read.
        trusted: PEM text of each public key, in one spelling.
    """

    arn: str
    trusted: tuple[str, ...]

    @property
    def thing(self) -> str:
        """The thing's name."""
        return self.arn.rpartition("/")[2]


@dataclass(slots=True)
class Found:
    """What is wrong so far, and what somebody should know."""

    problems: list[UsageError] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    def raise_all(self) -> None:
        """Raise the one problem, or all of them as one.

        Raises:
            UsageError: there is any.
        """
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems:
            texts = "\n\n".join(map(str, self.problems))
            raise UsageError(f"{len(self.problems)} things are wrong, and nothing was done\n\n{texts}")


def check_names(request: BundleRequest, found: Found) -> Names:
    """Check everything of a request but its certificates; what is wrong is added to ``found``."""
    arn = _thing_arn(request, found)
    _check_endpoint(request, found)
    _check_store(request, found)
    return Names(arn, tuple(_trusted(request, found)))


def _thing_arn(request: BundleRequest, found: Found) -> str:
    given = _ARN.fullmatch(request.thing)
    name = given[3] if given else request.thing
    if not re.fullmatch(THING, name):
        found.problems.append(
            UsageError(
                "this is no name of a thing",
                expected="1 to 128 letters, digits, :, _ and -, or the thing's ARN",
                got=repr(request.thing),
            )
        )
    if given:
        return request.thing
    host = aws_host(request.endpoint)
    return f"arn:aws:iot:{host.region if host else ''}::thing/{name}"


def _check_endpoint(request: BundleRequest, found: Found) -> None:
    host = request.endpoint
    if not _is_host(host):
        found.problems.append(
            UsageError(
                "the endpoint is no host name",
                expected="a host alone, such as a1b2c3d4-ats.iot.eu-west-1.amazonaws.com or broker.example.org",
                got=repr(request.endpoint),
                remedy="leave out mqtts:// and the port, which is --port",
            )
        )
        return
    aws = aws_host(host)
    if aws is None:
        return
    if aws.service in ("credentials", "other"):
        found.problems.append(
            UsageError(
                "this host of AWS IoT takes no MQTT",
                got=host,
                remedy="aws iot describe-endpoint --endpoint-type iot:Data-ATS says the right one",
            )
        )
    if request.port not in (MQTT_PORT, SHARED_PORT):
        found.problems.append(
            UsageError("AWS IoT takes MQTT on two ports", expected="--port 8883 or 443", got=str(request.port))
        )
    if aws.service == "legacy-data":
        found.cautions.append(
            f"{host} shows a certificate of an authority that is not trusted any more; its ATS name is "
            f"{host.replace('.iot.', '-ats.iot.', 1)} (aws iot describe-endpoint --endpoint-type iot:Data-ATS)"
        )


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))
    return True


def _check_store(request: BundleRequest, found: Found) -> None:
    if request.region is not None and not re.fullmatch(REGION, request.region):
        found.problems.append(UsageError("this is no region", expected="such as eu-west-1", got=repr(request.region)))
    alias, endpoint = request.role_alias, request.credentials_endpoint
    if (alias is None) != (endpoint is None):
        found.problems.append(
            UsageError(
                "the credentials provider needs two values",
                expected="--role-alias and --credentials-endpoint",
                got="--role-alias alone" if endpoint is None else "--credentials-endpoint alone",
                remedy="aws iot describe-endpoint --endpoint-type iot:CredentialProvider says the endpoint",
            )
        )
    if alias is not None and not re.fullmatch(ROLE_ALIAS, alias):
        found.problems.append(
            UsageError("this is no role alias", expected="1 to 128 letters, digits and _=,@-", got=repr(alias))
        )
    if endpoint is not None:
        _check_credentials_endpoint(request.endpoint, endpoint, found)


def _check_credentials_endpoint(broker: str, endpoint: str, found: Found) -> None:
    aws, data = aws_host(endpoint), aws_host(broker)
    if not _is_host(endpoint) or (aws is not None and aws.service != "credentials"):
        found.problems.append(
            UsageError(
                "this is no host of the credentials provider",
                expected="such as a1b2c3d4.credentials.iot.eu-west-1.amazonaws.com",
                got=repr(endpoint),
                remedy="aws iot describe-endpoint --endpoint-type iot:CredentialProvider",
            )
        )
    elif aws is not None and data is not None and aws.region != data.region:
        found.problems.append(
            UsageError(
                "the certificate is known in one region only",
                expected=f"a credentials endpoint in {data.region}, as the broker",
                got=endpoint,
            )
        )


def _trusted(request: BundleRequest, found: Found) -> list[str]:
    """PEM text of each public key."""
    keys: list[str] = []
    for path in request.trust:
        try:
            with path.open("rb") as file:
                key = normal_public_key(file.read(_LARGEST_KEY_BYTES).decode("ascii", "replace"))
        except OSError as error:
            found.problems.append(UsageError(f"the public key cannot be read: {error.strerror}", where=str(path)))
        except ValueError as error:
            found.problems.append(UsageError(f"nobody can be trusted by this file: {error}", where=str(path)))
        else:
            if key not in keys:
                keys.append(key)
    return keys
