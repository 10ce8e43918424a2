"""Tests on real models and photos, which are not part of the project: they lie beside the checkout, or nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"

# Without the data there is nothing to test, and the summary says so; with it, every test runs.
collect_ignore_glob = [] if DATA.is_dir() else ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not DATA.is_dir():
        terminalreporter.write_line(f"tests/real was left out: there is no {DATA}")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with real models and photos."""
    return DATA
