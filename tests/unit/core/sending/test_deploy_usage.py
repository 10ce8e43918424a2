"""A wrong command line of ``mli deploy`` is told before anything is connected to."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mli.cli.main import app
from mli.errors import UsageError

TO_A = ["--thing", "a", "--broker", "localhost"]


def usage_error(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["deploy", *arguments])
    assert isinstance(result.exception, UsageError), result.exception
    return str(result.exception)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "deployment.yaml"
    path.write_text(f"model: {{uri: s3://bucket/model.zip, sha256: {'ab' * 32}}}\nsource: demo\n")
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no thing is named"),
        (["--thing", "a"], "--broker URL"),
        (["--broker", "localhost"], "no thing is named"),
        (["--cancel", *TO_A], "takes no file"),
        (["--root", ".", "--thing", "a"], "--thing"),
        (["--root", ".", "--revision", "0"], "--revision"),
        (["--again", *TO_A], "--root"),
        (["--timeout", "soon", *TO_A], "--timeout"),
        (["--expires", "0", *TO_A], "--expires"),
        (["--sign", "none.key", *TO_A], "none.key"),
        (["--thing", "a", "--broker", "http://localhost"], "http"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str, file: str) -> None:
    assert words in usage_error(file, *arguments)


def test_no_file() -> None:
    assert "mli deploy FILE" in usage_error(*TO_A)


def test_aws_closes_a_connection_that_follows_many_things(file: str) -> None:
    things = [word for number in range(17) for word in ("--thing", f"line-{number}")]
    assert "at most 16 things" in usage_error(file, *things, "--broker", "mqtts://x.iot.eu-west-1.amazonaws.com")
