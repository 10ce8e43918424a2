"""The page names every check, in the table's order."""

from __future__ import annotations

import re

from tests.fixtures.brokers import ROOT

from mli.core.doctor.checks import CHECKS


def test_the_page_names_every_check() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text()
    assert re.findall(r"^\| `([\w ]+)` \|", page, re.MULTILINE) == [check.name for check in CHECKS]
