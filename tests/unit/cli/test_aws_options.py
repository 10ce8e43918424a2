"""What cannot be said together with ``--aws``, and what is nothing without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mli.cli.deploy import deploy
from mli.cli.watch import watch
from mli.errors import UsageError


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"aws": True, "broker": "localhost"}, "--broker"),
        ({"aws": True, "cert": "x", "key": "y", "username": "z"}, "--cert, --key, --username"),
        ({"profile": "x"}, "say --aws as well"),
        ({"endpoint": "x", "region": "y"}, "--region, --endpoint"),
        ({"topic": "a/#", "thing": ["b"]}, "said twice"),
        ({"thing": ["a/b"]}, "no name of a thing"),
        ({"aws": True, "thing": [f"t{number}" for number in range(26)]}, "at most 25 things"),
    ],
)
def test_watch_refuses_options_that_contradict_each_other(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        watch(**options)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"thing": ["a"], "aws": True, "broker": "b"}, "--broker"),
        ({"thing": ["a"], "broker": "b", "region": "c"}, "say --aws as well"),
        ({"root": Path("r"), "aws": True}, "--aws"),
        ({"thing": ["a"]}, "--aws"),
        ({"thing": [f"t{number}" for number in range(17)], "aws": True}, "at most 16 things"),
        (
            {"thing": [f"t{number}" for number in range(17)], "broker": "x.iot.cn-north-1.amazonaws.com.cn"},
            "at most 16",
        ),
    ],
)
def test_deploy_refuses_options_that_contradict_each_other(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        deploy(file=Path("deployment.yaml"), **options)
    assert told in str(caught.value)
