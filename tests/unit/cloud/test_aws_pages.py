"""Commands of the pages on AWS: options that exist, calls that AWS knows. The walk itself is ``make rehearsal``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from awscli.clidriver import create_clidriver
from tests.fixtures.documented import AWS_PAGES, lines_of, programs_of

from mli.cli.main import app

CUSTOM = {("s3", "cp"), ("s3", "ls"), ("s3", "sync"), ("s3", "rm"), ("s3", "mb"), ("configure",), ("sso", "login")}
CUSTOM |= {("cloudformation", "deploy"), ("cloudformation", "package"), ("logs", "tail"), ("ssm", "start-session")}
"""The AWS CLI's own, behind which no single call stands."""


def documented(program: str) -> Iterator[Any]:
    for page in AWS_PAGES:
        for line in lines_of(page):
            for words in programs_of(line):
                words = words[1:] if words[0] == "sudo" else words
                if words[0] == program:
                    yield pytest.param(words[1:], id=f"{page.name}: {' '.join(words)}"[:120])


def test_lines_of_shell_are_taken_apart() -> None:
    line = (
        """ID=$(aws iot list-things --query "a[0]") && printf '%s' "$X" | aws iot-data publish --topic 'a b' > out"""
    )
    assert list(programs_of(line)) == [
        ["aws", "iot", "list-things", "--query", "a[0]"],
        ["printf", "%s", "$X"],
        ["aws", "iot-data", "publish", "--topic", "a b"],
    ]


@pytest.mark.parametrize("words", list(documented("mli")))
def test_mli_has_these_commands_and_options(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command: Any = typer.main.get_command(app)
    context = None
    rest = [word.removesuffix("…") or "x" for word in words]
    while hasattr(command, "commands"):
        context = command.make_context("mli", [rest[0]], parent=context, resilient_parsing=True)
        assert rest[0] in command.commands, f"mli knows no {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context("mli", rest, parent=context)


@pytest.mark.parametrize("words", list(documented("aws")))
def test_aws_knows_these_calls_and_their_options(words: list[str]) -> None:
    plain = [word for word in words if not word.startswith("-")]
    if any(tuple(plain[: len(one)]) == one for one in CUSTOM):
        return
    service, operation, *_ = words
    assert service in services(), f"AWS has no {service}"
    commands = operations(service)
    if operation == "wait":
        commands = commands["wait"].subcommand_table
        operation = plain[2]
    assert operation in commands, f"{service} has no {operation}"
    known = {f"--{name}" for name in commands[operation].arg_table}
    known |= {f"--no-{name}" for name, found in commands[operation].arg_table.items() if _is_flag(found)}
    known |= {"--region", "--profile", "--query", "--output", "--endpoint-url", "--ca-bundle", "--no-cli-pager"}
    said = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert said <= known, f"{service} {operation} has no {sorted(said - known)}"


@cache
def services() -> Any:
    """What the AWS CLI knows, by name."""
    return create_clidriver()._get_command_table()


@cache
def operations(service: str) -> Any:
    return services()[service]._get_command_table()


def _is_flag(found: Any) -> bool:
    return bool(found.cli_type_name == "boolean")


def test_the_other_programs_are_ordinary_ones() -> None:
    shell = {"printf", "echo", "cat", "cp", "cd", "mkdir", "tail", "export", "sh", "sudo"}
    shell |= {"diff", "ls", "rm", "sha256sum", "sort"}
    programs = {"mli", "aws", "unzip", "zip", "scp", "ssh", "make", "pip", "jq", "curl", "openssl"}
    ordinary = shell | programs | {"ggl-cli", "greengrass-cli", "systemctl", "journalctl"}
    found = {words[0] for page in AWS_PAGES for line in lines_of(page) for words in programs_of(line)}
    assert found <= ordinary, "say it in the test when a page needs another program"
