"""An Inception-BN archive as the accelerator's users hold it, its weights made by MXNet."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import numpy as np
from conformance.networks import NETWORKS, make_images
from conformance.oracle_process import ROOT, oracle_command, oracle_environment

from benchmarks.contenders import MXNET_PYTHON

NAME = "inception-bn"


def make_archive(folder: Path) -> Path:
    """Write ``inception-bn.zip``: the network that conformance compares, with a label for each class."""
    (network,) = (network for network in NETWORKS if network.name == NAME)
    np.save(folder / "images.npy", make_images(network))
    command = oracle_command(MXNET_PYTHON, "networks", NAME, str(folder))
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=oracle_environment())
    archive = folder / f"{NAME}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in (f"{NAME}-symbol.json", f"{NAME}-0000.params"):
            file.write(folder / name, name)
        file.writestr("synset.txt", "".join(f"n{number:08} class {number}\n" for number in range(1000)))
    return archive
