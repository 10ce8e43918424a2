"""Names of stacks: what CloudFormation takes, and no two cores with the same."""

from __future__ import annotations

import re

import pytest

from mli.cloud.names import COMPONENT_STACK, SHARED_STACK, adopted_thing, device_stack

AWS = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}")


def test_a_plain_name_stays_readable() -> None:
    assert device_stack("line-1") == "mli-line-1"


@pytest.mark.parametrize("name", ["gg_mli_accel", "a:b", "x" * 128, "_", "shared", "component"])
def test_every_name_of_a_core_is_a_name_of_a_stack(name: str) -> None:
    assert AWS.fullmatch(device_stack(name))
    assert device_stack(name) not in (SHARED_STACK, COMPONENT_STACK)


def test_names_that_look_alike_do_not_share_a_stack() -> None:
    names = ["a_b", "a:b", "a-b", "shared", "x" * 127, "x" * 128]
    assert len({device_stack(name) for name in names}) == len(names)


def test_the_accelerator_named_its_things_otherwise() -> None:
    assert adopted_thing("gg_mli_accel") == "gg_mli_accel_Core"
