"""What Ctrl-C means in ``mli stack``."""

from __future__ import annotations

import pytest
import typer

from mli.cli.stack_view import told_when_interrupted


@pytest.mark.parametrize(
    ("raised", "told"),
    [(KeyboardInterrupt(), "the same command follows it"), (typer.Abort(), "nothing was changed after it")],
)
def test_it_is_told_and_ends_with_130(raised: BaseException, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, told_when_interrupted():
        raise raised
    assert caught.value.exit_code == 130
    assert told in capsys.readouterr().err
