"""What the rehearsal reads from the page, and the world that it makes; the walk itself is ``make rehearsal``."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from rehearsal import ec2, migration
from rehearsal.little_aws import operator_policies, service_of
from rehearsal.page import EC2, MIGRATION, PAGE, Told, told_by
from rehearsal.ways import CORE, WAYS, told_in
from rehearsal.world import answer_to
from tests.fixtures.documented import AWS_PAGES, commands_of


def question(name: str, kind: int = 1) -> bytes:
    """As a resolver asks for an address."""
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


@pytest.mark.parametrize(
    ("name", "kind", "code", "address"),
    [
        ("a1-ats.iot.eu-central-1.amazonaws.com", 1, 0, "127.0.0.1"),
        ("BUCKET.s3.cn-north-1.amazonaws.com.CN", 1, 0, "127.0.0.1"),
        ("sts.amazonaws.com", 28, 0, None),  # no address of version 6, which is no error
        ("amazonaws.com.example", 1, 3, None),
        ("localhost", 1, 3, None),
    ],
)
def test_only_names_of_aws_have_an_address(name: str, kind: int, code: int, address: str | None) -> None:
    answer = answer_to(question(name, kind))
    number, flags, questions, answers, _, _ = struct.unpack("!HHHHHH", answer[:12])
    assert (number, flags & 0x0F, questions) == (7, code, 1)
    assert answers == (address is not None)
    if address is not None:
        assert answer[-4:] == socket.inet_aton(address)


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("s3.eu-central-1.amazonaws.com", "s3"),
        ("a-bucket.s3.eu-central-1.amazonaws.com", "s3"),
        ("iot-models.s3.amazonaws.com", "s3"),
        ("a1-ats.iot.eu-central-1.amazonaws.com", "iot-data"),
        ("c1.credentials.iot.eu-central-1.amazonaws.com", "iot-credentials"),
        ("iot.eu-central-1.amazonaws.com", "iot"),
        ("cloudformation.eu-central-1.amazonaws.com", "cloudformation"),
    ],
)
def test_a_name_leads_to_its_service(name: str, service: str) -> None:
    assert service_of(name) == service


def test_lines_belong_to_the_step_above_them() -> None:
    page = """# Page
## A way
### 1. First
```sh
# a comment
one \\
  more
```
words
```yaml
# deployment.yaml
model: x
```
### 2. Second
```sh
two
```
## Another
```sh
three
```
"""
    assert list(told_by(page)) == [
        Told("A way", "1. First", "one more"),
        Told("A way", "1. First", file="deployment.yaml", text="# deployment.yaml\nmodel: x\n"),
        Told("A way", "2. Second", "two"),
        Told("Another", "", "three"),
    ]


def test_every_command_of_the_page_is_on_a_way() -> None:
    walked = {told.command for name in ("core", "cli", "greengrass") for told in told_in(WAYS[name].section)}
    assert {told.command for told in told_by(PAGE.read_text())} == walked
    assert len(commands_of([PAGE])) > 25
    assert PAGE in AWS_PAGES


@pytest.mark.parametrize(
    ("page", "walked", "left_out"),
    [(MIGRATION, migration.lines_of_page(), migration.LEFT_OUT), (EC2, ec2.lines_of_page(), ec2.LEFT_OUT)],
)
def test_every_command_of_the_other_pages_is_on_its_way_or_named(
    page: Path, walked: list[Told], left_out: tuple[str, ...]
) -> None:
    known = {told.command for told in walked}
    missing = [told for told in told_by(page.read_text()) if told.command not in known]
    assert [one for one in missing if not any(part == one.section or part in one.command for part in left_out)] == []
    assert len(known) > 10


def test_the_way_ends_where_it_began() -> None:
    steps = [told.command for told in told_in(CORE) if told.command]
    assert steps[0].startswith("mli device cert")
    assert steps[-1].startswith("mli stack destroy")


def test_the_workstation_has_the_daily_rights_and_no_more() -> None:
    (policy,) = operator_policies()
    actions = str(policy)
    assert "iot:Connect" in actions
    assert "iam:" not in actions
