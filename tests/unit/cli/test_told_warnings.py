"""Warnings of the library look like every other remark."""

from __future__ import annotations

import logging

import pytest

from mli.cli.told_warnings import told_warnings


def test_a_warning_is_one_line_of_ours_and_nothing_stays(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("mli.models.somewhere")
    before = list(logging.getLogger("mli").handlers)
    with told_warnings():
        logger.warning("the %s is odd", "gamma")
    assert capsys.readouterr().err == "mli: the gamma is odd\n"
    assert logging.getLogger("mli").handlers == before
