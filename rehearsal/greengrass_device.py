"""A device that runs Greengrass V2: what its nucleus does with the component that the stack deployed.

Played are the two engines' ways to lay out a component, to fill in its scripts and to speak IPC, and the
TokenExchangeService. The scripts are the recipe's, the artifact is the one in S3, nothing else is installed.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import ssl
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from tests.fixtures.cfn_resolve import resolve
from tests.fixtures.greengrass_engines import Engine, EngineName
from tests.fixtures.greengrass_ipc import Component, Nucleus
from tests.fixtures.swift_server import REGION

from mli.cloud.names import COMPONENT, COMPONENT_STACK, SHARED_STACK
from rehearsal.little_aws import MQTTS, LittleAws

_TOKEN = "token-of-the-exchange-service"
_INSTALL_S = 600


@dataclass(frozen=True, slots=True)
class Certified:
    """A device's files, as ``mli device cert`` makes them."""

    folder: Path

    def context(self, authority: str = "root.ca.pem") -> ssl.SSLContext:
        """TLS with its certificate."""
        context = ssl.create_default_context(cafile=self.folder / authority)
        context.load_cert_chain(self.folder / "thing.cert.pem", self.folder / "thing.private.key")
        return context


@dataclass(frozen=True, slots=True)
class Deployed:
    """What Greengrass would hand to the device.

    Attributes:
        recipe: as the component's stack has it.
        configuration: the recipe's default, with what the deployment merges into it.
    """

    recipe: Mapping[str, Any]
    artifact_bucket: str
    artifact_key: str
    configuration: Mapping[str, Any]


def deployed(aws: LittleAws, command: str) -> Deployed:
    """Read it from the stacks.

    Args:
        command: the output ``CommandToDeployGroup``: the deployment as the AWS CLI makes it.
    """
    control = aws.moto.client("cloudformation")
    shared = _outputs(control, SHARED_STACK)
    (stack,) = control.describe_stacks(StackName=COMPONENT_STACK)["Stacks"]
    given = {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", [])}
    text = control.get_template(StackName=COMPONENT_STACK)["TemplateBody"]
    exports = {f"{SHARED_STACK}:{name}": value for name, value in shared.items()}
    made = resolve(text if isinstance(text, str) else json.dumps(text), given, exports, region=REGION)
    recipe = json.loads(made.resources["Component"].properties["InlineRecipe"])
    words = shlex.split(command)
    update = json.loads(words[words.index("--components") + 1])[COMPONENT]
    assert update["componentVersion"] == recipe["ComponentVersion"], (update, recipe["ComponentVersion"])
    default = recipe["ComponentConfiguration"]["DefaultConfiguration"]
    merged = _merged(default, json.loads(update["configurationUpdate"]["merge"]))
    bucket, _, key = recipe["Manifests"][0]["Artifacts"][0]["Uri"].removeprefix("s3://").partition("/")
    return Deployed(recipe, bucket, key, merged)


def _merged(into: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """As both engines merge: key by key, all the way down."""
    both = {
        key: _merged(into[key], value) if isinstance(value, dict) and isinstance(into.get(key), dict) else value
        for key, value in more.items()
    }
    return {**into, **both}


def _outputs(control: Any, name: str) -> dict[str, str]:
    (stack,) = control.describe_stacks(StackName=name)["Stacks"]
    return {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}


class GreengrassDevice:
    """Enter it to install; then it runs, until it is left.

    Args:
        engine: whose behaviour.
        folder: a new one, which stands for the device's disk.
        endpoints: of IoT Core and of the credentials provider, as the stack's outputs say them.
    """

    def __init__(
        self,
        engine: EngineName,
        folder: Path,
        aws: LittleAws,
        what: Deployed,
        certified: Certified,
        thing: str,
        endpoints: tuple[str, str],
    ) -> None:
        self._what = what
        self._folder = folder
        self._engine = _EngineHere(engine, COMPONENT, what.recipe["ComponentVersion"], thing, str(folder))
        policies = what.configuration["accessControl"]["aws.greengrass.ipc.mqttproxy"].values()
        topics = [text for one in policies for text in one["resources"]]
        if engine == "lite":  # classic replaces no variables there, unless interpolateComponentConfiguration is set
            topics = [text.replace("{iot:thingName}", thing) for text in topics]
        self._nucleus = _NucleusOnline(
            folder,
            certified,
            endpoints[0],
            engine=engine,
            thing=thing,
            configuration=what.configuration,
            topics=topics,
        )
        self._exchange = _ExchangeService(certified, endpoints[1], thing)
        self._environ = {
            **self._exchange.environment(),
            "SSL_CERT_FILE": str(aws.ca),
            "PATH": _path_without_this_python(),
            "HOME": str(folder),
        }
        self._component: Component | None = None

    def fetch(self, aws: LittleAws) -> str:
        """The artifact, from S3 by its URI in the recipe, and where it belongs."""
        artifact = self._folder / Path(self._what.artifact_key).name
        data = aws.swift.read(self._what.artifact_bucket, self._what.artifact_key)
        artifact.write_bytes(data)
        work = self._engine.place(artifact, Path("/"))
        (work / "images").symlink_to(aws_images(self._folder))
        return f"{len(data):,} bytes of s3://{self._what.artifact_bucket}/{self._what.artifact_key}"

    def install(self) -> str:
        """The recipe's step; its output.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        done = subprocess.run(
            ["sh", "-c", self._script("install")],
            env={**os.environ, **self._environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            timeout=_INSTALL_S,
        )
        return done.stdout

    def run(self) -> None:
        """The recipe's step, which stays."""
        self._nucleus.start()
        command = ["sh", "-c", self._script("run")]
        self._component = Component(self._nucleus, command, self._folder, environ=self._environ)
        self._component.start()

    def stop(self) -> str:
        """As the nucleus does; its output, with its exit code at the end."""
        assert self._component is not None
        code = self._component.stop()
        return f"{self._component.output()}\nexit code {code}"

    def end(self) -> None:
        """Whatever is left."""
        if self._component is not None:
            self._component.end()
        self._nucleus.close()
        self._exchange.close()

    def _script(self, step: str) -> str:
        return self._engine.script(self._what.recipe["Manifests"][0]["Lifecycle"][step])


def aws_images(folder: Path) -> Path:
    """The images that play the camera."""
    return folder.parent / "images"


def _path_without_this_python() -> str:
    """The device has the system's Python, not the one of this checkout."""
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class _EngineHere(Engine):
    """Its folder is below one of ours."""

    folder: str = ""

    @property
    def root(self) -> str:
        return f"{self.folder}/greengrass"


class _NucleusOnline(Nucleus):
    """Its line to IoT Core has the device's certificate, so that its policies hold for what components publish."""

    def __init__(self, folder: Path, certified: Certified, endpoint: str, **options: Any) -> None:
        self._certified = certified
        self._endpoint = endpoint
        super().__init__(folder, MQTTS, **options)

    def _connect_broker(self) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self.thing, protocol=MQTTProtocolVersion.MQTTv5)
        client.reconnect_delay_set(1, 1)
        client.tls_set_context(self._certified.context())
        client.connect_async(self._endpoint, MQTTS)
        client.loop_start()
        return client


class _ExchangeService:
    """The TokenExchangeService: keys by the device's certificate, for components on the device."""

    def __init__(self, certified: Certified, endpoint: str, thing: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                if self.headers.get("Authorization") != _TOKEN:
                    self.send_error(403)
                    return
                body = json.dumps(_keys(certified, endpoint, thing)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def environment(self) -> dict[str, str]:
        """What a component sees that depends on it."""
        uri = f"http://localhost:{self._server.server_port}/2016-11-01/credentialprovider/"
        return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri, "AWS_CONTAINER_AUTHORIZATION_TOKEN": _TOKEN}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _keys(certified: Certified, endpoint: str, thing: str) -> dict[str, str]:
    connection = http.client.HTTPSConnection(endpoint, context=certified.context(), timeout=30)
    headers = {"x-amzn-iot-thingname": thing}
    connection.request("GET", "/role-aliases/mli-device/credentials", headers=headers)
    found = json.loads(connection.getresponse().read())["credentials"]
    connection.close()
    return {
        "AccessKeyId": found["accessKeyId"],
        "SecretAccessKey": found["secretAccessKey"],
        "Token": found["sessionToken"],
        "Expiration": found["expiration"],
    }
