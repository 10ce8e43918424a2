"""The component on a device without a network: packed with its real wheels, installed and run by its recipe."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path

from tests.fixtures.brokers import Mosquitto
from tests.fixtures.clean_root import System
from tests.fixtures.component_life import Life, live

from mli.cloud.component_package import build

BASE = Path(sys.base_prefix)
HERE = System("this machine", python=None if str(BASE) == "/usr" else BASE)


def test_the_recipe_installs_and_runs_mli_without_a_network(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """On this machine's system and Python alone; `make component-check` has the others, and kills on the way."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    package = build(tmp_path / "package", [platform.machine()], [python])
    live(Life(HERE, "lite", kill=False), package, make_mosquitto(), tmp_path / "life", lambda _: None)
