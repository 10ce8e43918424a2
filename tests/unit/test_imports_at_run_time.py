"""What is not needed is not imported: the help comes at once, and a worker stays small and knows no network."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "numpy",
    "cv2",
    "onnx",
    "onnxruntime",
    "ai_edge_litert",
    "pydantic",
    "yaml",
    "paho",
    "amqtt",
    "boto3",
    "sqlite3",
    "psutil",
    "obstore",
    "cryptography",
    "awsiot",
    "awscrt",
}
NOT_FOR_A_WORKER = HEAVY - {"numpy", "cv2", "onnxruntime", "ai_edge_litert"} | {"typer", "rich"}
NOT_FOR_A_CORE = {"numpy", "cv2", "onnx", "onnxruntime", "ai_edge_litert", "rich", "amqtt", "boto3", "cryptography"}
OF_A_COMPONENT = {"awsiot", "awscrt"}

WORKER = """
import mli.core.worker
import mli.pipeline.estimators.registry
import mli.pipeline.loop
import mli.pipeline.sources.registry
import mli.pipeline.warmup
from mli.pipeline.decoders.decoder import make_decoder
from mli.pipeline.estimators.onnx import OnnxEstimator
from mli.pipeline.sources.demo import DemoSource
from mli.pipeline.sources.images import ImagesSource
"""
CORE = """
import mli.cli.main
import mli.cli.run
import mli.cli.running
import mli.config.files
import mli.core.core
import mli.delivery.sinks.mqtt
"""
"""``mli run --broker`` up to its first worker; reading a model's labels needs no runtime of it."""
DEVICE = """
import mli.cli.core
import mli.config.device
import mli.core.agent
import mli.core.home
import mli.delivery.sinks.mqtt
"""
COMPONENT = """
import mli.cli.component
import mli.core.agent
import mli.core.component.configuration
import mli.core.component.home
from mli.config.settings import NucleusSettings
from mli.delivery.sinks.greengrass_ipc import NucleusConnection
from mli.errors import RetryError
try:
    NucleusConnection(NucleusSettings("/nonexistent", "x"), print)
except RetryError:
    pass
"""
"""Up to its connection to the nucleus."""


def imported_by(program: str) -> set[str]:
    """Names of the top-level packages in a fresh interpreter after ``program``."""
    told = (
        f"{program}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    result = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


HELP = """
import sys
import mli.cli.main as command_line
sys.argv = ["mli", *{arguments!r}]
try:
    command_line.main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_no_library_of_the_work(arguments: list[str]) -> None:
    assert not imported_by(HELP.format(arguments=arguments)) & HEAVY


@pytest.mark.parametrize(
    "arguments", [["run", "--help"], ["model", "--help"], ["demo", "--help"], ["deploy", "--help"]]
)
def test_help_of_a_command_imports_no_library_of_the_work(arguments: list[str]) -> None:
    # Typer itself looks for pydantic's types as soon as a command has options.
    assert not imported_by(HELP.format(arguments=arguments)) & (HEAVY - {"pydantic"})


def test_help_is_plain() -> None:
    """Drawn by rich it takes twice as long."""
    assert "rich" not in imported_by(HELP.format(arguments=["--help"]))


def test_worker_has_no_configuration_parser_network_or_database() -> None:
    imported = imported_by(WORKER)
    assert {"cv2", "onnxruntime"} <= imported
    assert not imported & NOT_FOR_A_WORKER


def test_core_has_no_image_library_and_no_runtime() -> None:
    imported = imported_by(CORE)
    assert {"paho", "sqlite3"} <= imported
    assert not imported & (NOT_FOR_A_CORE | OF_A_COMPONENT)


def test_only_a_component_has_the_nucleus_library_and_only_a_device_of_its_own_has_mqtt() -> None:
    device, component = imported_by(DEVICE), imported_by(COMPONENT)
    assert "paho" in device
    assert not device & (NOT_FOR_A_CORE | OF_A_COMPONENT)
    assert component >= OF_A_COMPONENT
    assert not component & (NOT_FOR_A_CORE | {"paho", "obstore"})
