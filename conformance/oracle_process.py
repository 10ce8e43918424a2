"""MXNet in a process of its own, which runs graphs of one operator.

    with Oracle(python) as oracle:
        result = oracle.run(GraphSpec("Activation", {"act_type": "relu"}, (Input((2, 3)),)))
    print(compare_graph(result))            # conformance/compare.py

``find_python()`` gives the python of MXNet's venv: what MXNET_PYTHON names, or ``.venv-mxnet`` (``make conformance``
sets it up). Every result is kept in a folder of its own, which goes with the oracle.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np

from conformance.spec import GraphSpec

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 60.0

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Arrays: TypeAlias = dict[str, Array]


@dataclass(frozen=True, slots=True)
class OracleResult:
    """One graph as MXNet saved and ran it.

    Attributes:
        symbol, params: the two files.
        inputs: what was fed, by the variable's name.
        outputs: in the order of MXNet's list_outputs; None where MXNet refused.
        output_names: MXNet's.
        error: why MXNet refused the graph.
    """

    spec: GraphSpec
    symbol: Path
    params: Path
    inputs: Arrays
    outputs: list[Array] | None
    output_names: tuple[str, ...]
    error: str | None


def find_python() -> Path:
    """The python that has MXNet.

    Raises:
        SystemExit: it was not set up.
    """
    python = Path(os.environ.get("MXNET_PYTHON", ROOT / ".venv-mxnet" / "bin" / "python"))
    if not python.exists():
        raise SystemExit(f"{python} is not there; `make conformance` sets it up, or name one in MXNET_PYTHON")
    return python


def oracle_command(python: Path, script: str, *arguments: str) -> list[str]:
    """What runs a module of conformance/oracle, from the folder ROOT."""
    return [str(python), "-m", f"conformance.oracle.{script}", *arguments]


def oracle_environment() -> dict[str, str]:
    """This environment without what would lead MXNet's python to the project's packages.

    MXNet's fusing of convolution and normalisation is off: it fails on networks that were bound in pieces.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "MXNET_SUBGRAPH_BACKEND": "NONE", "MXNET_STORAGE_FALLBACK_LOG_VERBOSE": "0"}


class Oracle:
    """Runs graphs in MXNet; a context manager.

    Args:
        python: of the venv that has mxnet.
    """

    def __init__(self, python: Path) -> None:
        self._command = oracle_command(python, "graphs")
        self._folder = Path(tempfile.mkdtemp(prefix="mli-oracle-"))
        self._process: subprocess.Popen[str] | None = None
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; every result's files go."""
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, spec: GraphSpec) -> OracleResult:
        """Build, save and run one graph. The files of the result before the last are removed."""
        self._count += 1
        shutil.rmtree(self._folder / str(self._count - 2), ignore_errors=True)
        folder = self._folder / str(self._count)
        folder.mkdir()
        text = spec.to_json()
        error = self._ask(json.dumps({"folder": str(folder), "spec": json.loads(text)}))
        inputs = _load(folder / "inputs.npz") if error is None else {}
        outputs = _load(folder / "outputs.npz") if error is None else None
        return OracleResult(
            spec,
            folder / "graph-symbol.json",
            folder / "graph-0000.params",
            inputs,
            None if outputs is None else list(outputs.values()),
            tuple(outputs or ()),
            error,
        )

    def _ask(self, line: str) -> str | None:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        # MXNet may hang or die on a graph: both end the process, and count as refused.
        alarm = threading.Timer(DEADLINE_S, process.kill)
        alarm.start()
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            alarm.cancel()
        if not answer:
            self._stop()
            return f"MXNet's process ended with code {process.returncode}"
        error = json.loads(answer)["error"]
        return None if error is None else str(error)

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            log = (self._folder / "log.txt").open("a")
            with log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    cwd=ROOT,
                    # MXNet's reference kernels: oneDNN's softmax takes another axis of four than MXNet documents.
                    env={**oracle_environment(), "MXNET_MKLDNN_ENABLED": "0"},
                )
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _load(path: Path) -> Arrays:
    with np.load(path) as saved:
        return {name: saved[name] for name in saved.files}
