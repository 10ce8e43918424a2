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
}
NOT_FOR_A_WORKER = HEAVY - {"numpy", "cv2", "onnxruntime", "ai_edge_litert"} | {"typer", "rich"}
NOT_FOR_A_CORE = {"numpy", "cv2", "onnx", "onnxruntime", "ai_edge_litert", "rich", "amqtt", "boto3", "cryptography"}

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
    assert not imported & NOT_FOR_A_CORE
