"""Commands that a person is told to type have the options that this command was given."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mli.cli.to_type import tells_what_to_type, to_type
from mli.errors import RefusedError


@tells_what_to_type
def told(
    text: str,
    profile: str | None = None,
    region: str | None = None,
    stack_name: str | None = None,
    certs_folder: Path | None = None,
) -> str:
    """A command that says what comes next."""
    del profile, region, stack_name, certs_folder
    return to_type(text)


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("  mli stack status belt", "  mli stack status --profile 'my own' --region eu-west-1 belt"),
        ("mli device bundle --stack a", "mli device bundle --profile 'my own' --region eu-west-1 --stack a"),
        ("mli watch --aws.", "mli watch --profile 'my own' --region eu-west-1 --aws."),
        (
            "aws iot update-certificate --certificate-id x; then again",
            "aws --profile 'my own' --region eu-west-1 iot update-certificate --certificate-id x; then again",
        ),
        (
            "aws iot attach-policy --policy-name p --region eu-west-1\nmli model push m.zip",
            "aws --profile 'my own' iot attach-policy --policy-name p --region eu-west-1\n"
            "mli model push --profile 'my own' --region eu-west-1 m.zip",
        ),
        (
            "mli stack outputs a | sh",
            "mli stack outputs --profile 'my own' --region eu-west-1 a | AWS_PROFILE='my own' sh",
        ),
        ("aws configure list-profiles", "aws configure list-profiles"),
        ("mli device install, mli watch without --thing", "mli device install, mli watch without --thing"),
    ],
)
def test_the_account_goes_with_each_command_that_needs_one(text: str, typed: str) -> None:
    assert told(text, profile="my own", region="eu-west-1") == typed
    assert told(text) == text
    assert to_type(text) == text


def test_a_stack_of_another_name_is_found_again_and_so_is_a_folder() -> None:
    text = "mli stack status a; mli stack deploy --shared; mli device cert a --finish; mli model push"
    assert told(text, stack_name="mine", certs_folder=Path("my certs")) == (
        "mli stack status --stack-name mine a; mli stack deploy --shared; "
        "mli device cert -o 'my certs' a --finish; mli model push"
    )


def test_the_remedy_of_an_error_can_be_copied() -> None:
    @tells_what_to_type
    def fail(*, region: str | None = None) -> None:
        raise RefusedError("No.", got="mli stack status a", remedy=f"mli stack deploy a, {region}")

    with pytest.raises(RefusedError) as caught:
        fail(region="$(x)")
    assert shlex.split(str(caught.value.remedy))[3:5] == ["--region", "$(x)"]
    assert caught.value.got == "mli stack status a"
