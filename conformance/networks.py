"""Networks, run by both."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from conformance.compare import import_and_run, output_error, relative_error
from conformance.oracle_process import ROOT, Array, Arrays, oracle_command, oracle_environment
from mli.models.mxnet.building import BATCH

PHOTOS = ROOT.parent / "shared" / "data" / "photos"
OLD_INCEPTION = ROOT.parent / "shared" / "data" / "inception-bn" / "Inception-BN-symbol.json"
DEADLINE_S = 900.0
COUNT = 6
# What Gluon's zoo was trained on: 0..1, then per channel.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Network:
    """One network.

    Attributes:
        name: Gluon's, or one of oracle/symbols.py.
        shape: of one input, (C, H, W).
        normalised: the input as Gluon wants it, rather than 0..255.
        internals: every node's outputs are compared too.
        detections: the output that has (class, score, box) rows, for detectors.
        symbol: the symbol file that mli reads instead of the one MXNet saved.
    """

    name: str
    shape: tuple[int, int, int] = (3, 224, 224)
    normalised: bool = True
    internals: bool = False
    detections: str | None = None
    symbol: Path | None = None


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """How one network did.

    Attributes:
        parameter_mb: size of the params file.
        spread: standard deviation of the logits over the classes, mean over images.
        image_spread: of one logit over the images, mean over the classes.
        error: largest relative error over the outputs.
        own_rounding: the error of MXNet's output against the one that it computes in float64; None for detectors.
        rounding: and of mli's.
        same_top5: None for detectors.
        internals: how many inner outputs were compared; None where none was asked for.
        internals_error, worst_internal: the largest relative error among them, and where it was.
        problem: why it could not be compared.
    """

    name: str
    parameter_mb: float = 0.0
    spread: float = 0.0
    image_spread: float = 0.0
    error: float = np.inf
    own_rounding: float | None = None
    rounding: float | None = None
    same_top5: bool | None = None
    internals: int | None = None
    internals_error: float = 0.0
    worst_internal: str = ""
    problem: str | None = None


def _zoo() -> Iterable[Network]:
    yield Network("alexnet", internals=True)
    yield from (Network(f"densenet{n}", internals=n == 121) for n in (121, 161, 169, 201))
    yield Network("inceptionv3", (3, 299, 299), internals=True)
    yield from (Network(f"mobilenet{n}", internals=n == "0.25") for n in ("1.0", "0.75", "0.5", "0.25"))
    yield from (Network(f"mobilenetv2_{n}", internals=n == "0.25") for n in ("1.0", "0.75", "0.5", "0.25"))
    for version in (1, 2):
        yield from (Network(f"resnet{n}_v{version}", internals=n == 18) for n in (18, 34, 50, 101, 152))
    yield from (Network(f"squeezenet{n}", internals=n == "1.1") for n in ("1.0", "1.1"))
    yield from (
        Network(f"vgg{n}{end}", internals=f"{n}{end}" == "11_bn") for n in (11, 13, 16, 19) for end in ("", "_bn")
    )


NETWORKS = (
    Network("lenet", (1, 28, 28), internals=True),
    Network("inception-bn", normalised=False, internals=True),
    *([Network("inception-bn-2015", normalised=False, symbol=OLD_INCEPTION)] if OLD_INCEPTION.exists() else []),
    Network("ssd-deploy", (3, 300, 300), normalised=False, internals=True, detections="detection_output"),
    Network("ssd-training", (3, 300, 300), normalised=False, detections="det_out_output"),
    *_zoo(),
)
QUICK = ("lenet", "inception-bn", "ssd-deploy", "ssd-training", "resnet18_v2", "squeezenet1.1", "mobilenet0.25")


def check_network(python: Path, network: Network, folder: Path) -> NetworkRecord:
    """Have the oracle make and run it, import it, and compare. ``folder`` is left to the caller to empty."""
    images = make_images(network)
    np.save(folder / "images.npy", images)
    problem = _run_oracle(python, network, folder)
    if problem is not None:
        return NetworkRecord(network.name, problem=problem)
    try:
        return _compare(network, folder, images)
    except Exception as error:  # noqa: BLE001 - one network's failure is a row of the table
        return NetworkRecord(network.name, problem=f"{type(error).__name__}: {error}")


def make_images(network: Network) -> Array:
    """The photos, or smooth random images where they are not there; (N, C, H, W), RGB."""
    channels, height, width = network.shape
    found = sorted(PHOTOS.glob("*.*g"))[:COUNT]
    pictures = [cv2.imread(str(path)) for path in found]
    if not pictures:
        random = np.random.default_rng(5)
        pictures = [
            cv2.resize(
                random.integers(0, 256, (9, 9, 3)).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
            )
            for _ in range(COUNT)
        ]
    colour = cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGR2GRAY
    resized = [
        cv2.resize(cv2.cvtColor(picture, colour), (width, height)) for picture in pictures if picture is not None
    ]
    images: Array = np.stack(resized).reshape(len(resized), height, width, channels).astype(np.float32)
    if network.normalised:
        images /= 255
        if channels == 3:
            images = (images - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _run_oracle(python: Path, network: Network, folder: Path) -> str | None:
    command = oracle_command(python, "networks", network.name, str(folder))
    command += ["--internals"] if network.internals else []
    command += ["--symbol", str(network.symbol)] if network.symbol else []
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE_S, cwd=ROOT, env=oracle_environment()
    )
    return None if done.returncode == 0 else f"MXNet: {done.stderr[-2000:]}"


def _compare(network: Network, folder: Path, images: Array) -> NetworkRecord:
    facts = json.loads((folder / "facts.json").read_text())
    logits = np.load(folder / "logits.npz")["logits"]
    outputs, expected = _import(network, folder, images), dict(np.load(folder / "outputs.npz"))
    missing = [name for name in expected if name not in outputs]
    if missing and (network.detections is None or network.detections in missing):
        return NetworkRecord(network.name, problem=f"outputs {missing} are missing, there are {list(outputs)}")
    op = "MultiBoxDetection" if network.detections else ""
    same: bool | None = None
    own_rounding = rounding = None
    if network.detections is None:
        (scores,) = expected.values()
        (exact,) = np.load(folder / "exact.npz").values()
        own_rounding = relative_error(scores, exact)
        rounding = relative_error(outputs[next(iter(expected))], exact)
        same = bool((_top5(outputs[next(iter(expected))]) == _top5(scores)).all())
    internals = _compare_internals(network, folder, images[:2]) if network.internals else {}
    worst = max(internals, key=lambda name: internals[name], default="")
    return NetworkRecord(
        network.name,
        facts["parameter_mb"],
        float(logits.std(axis=1).mean()),
        float(logits.std(axis=0).mean()),
        max(
            output_error(op if name == network.detections else "", outputs[name], expected[name]) for name in outputs
        ),
        own_rounding,
        rounding,
        same,
        len(internals) if network.internals else None,
        internals.get(worst, 0.0),
        worst,
    )


def _compare_internals(network: Network, folder: Path, images: Array) -> dict[str, float]:
    expected = dict(np.load(folder / "internals.npz"))
    found = _import(network, folder, images, all_outputs=True)
    missing = [name for name in expected if name not in found]
    if missing:
        raise LookupError(f"inner outputs are missing: {missing}")
    return {
        name: output_error("MultiBoxDetection", found[name], values)
        if name == network.detections
        else relative_error(found[name], values)
        for name, values in expected.items()
    }


def _import(network: Network, folder: Path, images: Array, all_outputs: bool = False) -> Arrays:
    symbol = network.symbol or folder / f"{network.name}-symbol.json"
    with tempfile.TemporaryDirectory(dir=folder) as where:
        return import_and_run(
            symbol,
            folder / f"{network.name}-0000.params",
            {"data": (BATCH, *network.shape)},
            {"data": images},
            Path(where),
            round_up=network.symbol is not None,
            all_outputs=all_outputs,
            predictions_only=True,
        )


def _top5(scores: Array) -> Array:
    return np.argsort(-scores, axis=1, kind="stable")[:, :5]
