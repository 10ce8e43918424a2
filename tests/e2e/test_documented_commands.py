"""Every command in README and docs is run, as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.contract.tiny_models import write_onnx_constants
from tests.fixtures.brokers import ROOT, Certificates, Mosquitto
from tests.fixtures.color_model import color_archive, color_image, color_model, detector_model, numbered_images
from tests.fixtures.device_files import private_pem, public_pem
from tests.fixtures.device_root import DeviceRoot
from tests.fixtures.documented import AWS_PAGES, PAGES, commands_of
from tests.fixtures.mli_process import MLI, environment, kill_group
from tests.fixtures.mxnet_files import golden_archive, synset
from tests.fixtures.simulated_things import SimulatedThings, obey

from mli.core.bundle_request import BundleRequest
from mli.core.device_bundle import write_bundle

ON_AWS = set(commands_of([ROOT / "docs" / "aws.md"]))
"""The rehearsal runs them, in their order; the README says some of them too."""
COMMANDS = [one for one in commands_of(page for page in PAGES if page not in AWS_PAGES) if one not in ON_AWS]


@dataclass
class Desk:
    """A folder with the files that the pages speak of, and the brokers."""

    folder: Path
    plain: Mosquitto
    secure: Mosquitto

    def place(self, word: str) -> str:
        """A word of a command with this desk's brokers in place of the page's."""
        for host in ("localhost", "broker.example"):
            word = word.replace(f"mqtt://{host}", f"mqtt://localhost:{self.plain.port}")
            word = word.replace(f"mqtt://me@{host}", f"mqtt://me@localhost:{self.plain.port}")
        word = word.replace("mqtts://broker.example", f"mqtts://localhost:{self.secure.port}")
        return word.replace("mqtts://YOUR-ENDPOINT:8883", f"mqtts://localhost:{self.secure.port}")

    @contextmanager
    def running(self, arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
        command = [*MLI, *(self.place(word) for word in arguments)]
        if arguments[0] == "watch" and "--broker" not in arguments:
            command += ["--broker", f"localhost:{self.plain.port}"]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment(self.folder / "state"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            kill_group(process)

    @contextmanager
    def publisher(self, broker: Mosquitto) -> Iterator[None]:
        """Predictions on the topic that the pages watch, from another thing."""
        url = "mqtts://broker.example" if broker is self.secure else "mqtt://localhost"
        files = ["--ca", "ca.pem", "--cert", "other.pem", "--key", "other.key"] if broker is self.secure else []
        arguments = ["run", "YOUR.zip", "images", "--interval", "100ms", "--thing", "background", *files]
        arguments += ["--topic", "mli/predictions/gg_mli_accel", "--broker", url]
        with self.running(arguments) as process:
            yield
            assert process.poll() is None, process.communicate()[1]


@pytest.fixture
def desk(make_mosquitto: Callable[..., Mosquitto], certificates: Certificates, tmp_path: Path) -> Desk:
    folder = tmp_path / "desk"
    folder.mkdir()
    numbered_images(folder / "images", 3)
    color_archive(folder, "YOUR.zip").with_name("color.onnx").unlink()
    color_model(folder / "model.onnx")
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    color_image(folder / "photo.png", "red").rename(folder / "photo.jpg")
    detector_model(folder / "detector.onnx")
    write_onnx_constants(folder / "yolo.onnx", {"output0": np.full((1, 6, 9), 0.5, np.float32)}, (1, 3, 32, 32))
    (folder / "coco.names").write_text("person\ncat\n")
    labels = {"synset.txt": synset(10)}
    golden_archive("inception-rounds-up-0.8", folder / "inception-bn.zip", prefix="Inception-BN", extra=labels)
    (folder / "secret.txt").write_text("sesame\n")
    key = Ed25519PrivateKey.generate()
    (folder / "deploy.pub").write_bytes(public_pem(key))
    (folder / "deploy.key").write_bytes(private_pem(key))
    (folder / "deployment.yaml").write_text(yaml_blocks(ROOT / "docs" / "deployments.md")[0])
    (folder / "things.txt").write_text("line-1\nline-2  # behind the first\n")
    names = {
        certificates.ca: ("ca.pem", "root.ca.pem"),
        certificates.client: ("me.pem", "other.pem", "gg_mli_accel.cert.pem"),
        certificates.client_key: ("me.key", "other.key", "gg_mli_accel.private.key"),
    }
    for path, links in names.items():
        for link in links:
            shutil.copy(path, folder / link)
    archive = [*MLI, "model", "pack", "model.onnx", "labels.txt", "photo.jpg", "-o", "made-before.zip"]
    subprocess.run(archive, cwd=folder, check=True, capture_output=True)
    for index, text in enumerate(yaml_blocks(ROOT / "README.md")):
        body = text.replace("packed.zip", "made-before.zip").replace("./images", "images")
        body = re.sub(r"label: .*?,", "label: red,", body)
        (folder / ("run.yaml" if index == 0 else f"run-{index}.yaml")).write_text(body)
    return Desk(folder, make_mosquitto(), make_mosquitto(certificates=certificates))


def yaml_blocks(page: Path) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_pages_hold_commands() -> None:
    assert any(command.startswith("mli run") for command in COMMANDS)
    assert any(command.startswith("mli watch") for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_command(command: str, desk: Desk) -> None:
    program, *arguments = shlex.split(command)
    match program:
        case "make":
            targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert arguments[0] in targets
        case "pip":
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert arguments[0] == "install"
            assert set(re.findall(r"[a-z]+", arguments[1])) <= set(extras)
        case ".":
            assert f"VENV := {arguments[0].split('/')[0]}\n" in (ROOT / "Makefile").read_text()
        case "mosquitto_sub":
            words = [word.replace("broker.example", "localhost") for word in arguments]
            with desk.publisher(desk.plain):
                subprocess.run(
                    [program, *words, "-p", str(desk.plain.port), "-C", "2"],
                    check=True,
                    timeout=60,
                    capture_output=True,
                )
        case "openssl":
            subprocess.run([program, *arguments], cwd=desk.folder, check=True, capture_output=True)
            assert (desk.folder / arguments[-1]).stat().st_size
        case "mli":
            if arguments[:2] in (["model", "verify"], ["model", "inspect"]):
                (desk.folder / "made-before.zip").rename(desk.folder / arguments[2])
            if "--background" in arguments:
                (desk.folder / "labels.txt").write_text("background\nface\n")
            follow(desk, arguments)
        case _:
            raise AssertionError(f"no way to try `{program}` is known here")


def follow(desk: Desk, arguments: list[str]) -> None:
    """Run a command until it ends, or until it has shown what it is for; then end it by Ctrl-C."""
    secure = any("mqtts://" in word for word in arguments)
    broker = desk.secure if secure else desk.plain
    if arguments[0] == "watch":
        with desk.publisher(broker), desk.running(arguments) as process:
            end_after_output(process, ends_itself="--count" in arguments)
    elif arguments[0] == "run" and "--broker" in arguments:
        subscriber = broker.subscribe("mli/predictions/#", 1)
        with desk.running(arguments) as process:
            subscriber.wait(60)
            interrupt(process)
    elif arguments[0] == "run":
        with desk.running(arguments) as process:
            end_after_output(process, ends_itself="--once" in arguments)
    elif arguments[0] == "doctor" or arguments[:2] in (["core", "status"], ["core", "logs"]):
        look_at_core(desk, arguments)
    elif arguments[0] == "deploy":
        send_deployment(desk, arguments, broker)
    elif arguments[:2] == ["device", "install"]:
        look_at_installation(desk, arguments)
    else:
        with desk.running(arguments) as process:
            output, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
            assert output


def look_at_core(desk: Desk, arguments: list[str]) -> None:
    """A command that is for a device on which a core runs."""
    device = DeviceRoot(desk.folder, desk.plain)
    with device.core():
        if "--pipeline" in arguments:
            device.deploy({"model": str(desk.folder / "YOUR.zip"), "source": str(desk.folder / "images")})
        with desk.running([*arguments, "--root", str(device.path)]) as process:
            end_after_output(process, ends_itself="-f" not in arguments)


def send_deployment(desk: Desk, arguments: list[str], broker: Mosquitto) -> None:
    """To things that take it; with ``--root``, to a core that fetches nothing."""
    with ExitStack() as stack:
        if "--root" in arguments:
            device = DeviceRoot(desk.folder, desk.plain)
            stack.enter_context(device.core())
            arguments = [str(device.path) if word == "/var/lib/mli" else word for word in arguments]
            (desk.folder / "deployment.yaml").write_text("model: YOUR.zip\nsource: images\n")
        else:
            things = ("gg_mli_accel", "line-1", "line-2")
            stack.enter_context(SimulatedThings(broker.settings(), dict.fromkeys(things, obey)))
        with desk.running(arguments) as process:
            output, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
            assert output


def look_at_installation(desk: Desk, arguments: list[str]) -> None:
    """A dry run shows every step, also where no systemd runs or a service could not see the tests' Python."""
    assert "--dry-run" in arguments, "tests/system installs"
    certificate, key, authorities = (desk.folder / name for name in ("me.pem", "me.key", "ca.pem"))
    request = BundleRequest("gg_mli_accel", "localhost", certificate, key, authorities)
    write_bundle(request, desk.folder / "setup.zip")
    with zipfile.ZipFile(desk.folder / "setup.zip") as archive:
        archive.extractall(desk.folder / "device")
    words = [str(desk.folder / "device") if word == "/var/lib/mli" else word for word in arguments]
    with desk.running(words) as process:
        output, errors = process.communicate(timeout=60)
        assert process.returncode in (0, 1), errors
        assert [line.split()[1] for line in output.splitlines() if line[:7].strip()][:8] == [
            *("system", "python", "user", "folder", "access", "greengrass", "unit", "service")
        ]


def end_after_output(process: subprocess.Popen[str], *, ends_itself: bool) -> None:
    assert process.stdout is not None
    assert process.stdout.readline(), process.communicate()[1]
    if ends_itself:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    else:
        interrupt(process)


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
