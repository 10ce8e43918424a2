"""Commands that a person is told to type, with the options that this command was given: a copied line works."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from mli.errors import MliError

P = ParamSpec("P")
T = TypeVar("T")

_AWS_CLI = r"\baws(?= (?:cloudformation|greengrassv2|iot|iot-data|logs|s3|s3api|sso|configure(?! list))\b)"
_STACK = r"\bmli stack (?:deploy|outputs|status|destroy)\b(?! --shared)"
_SHARED = r"\bmli stack (?:deploy|destroy)(?= --shared)"
_DEVICE = r"\bmli device (?:cert|replace)\b"
_OTHERS = r"\bmli device bundle\b|\bmli model push\b|\bmli (?:deploy|watch)(?= --aws)"
_COMMAND = re.compile(
    f"(?P<aws>{_AWS_CLI})|(?P<stack>{_STACK})|(?P<shared>{_SHARED})|(?P<device>{_DEVICE})|(?P<other>{_OTHERS})"
)
_CARRIED = {
    "profile": ("--profile", frozenset({"aws", "stack", "shared", "device", "other"})),
    "region": ("--region", frozenset({"aws", "stack", "shared", "device", "other"})),
    "stack_name": ("--stack-name", frozenset({"stack"})),
    "certs_folder": ("-o", frozenset({"device"})),
}
"""A parameter of a command, its option, and the kinds of command that need it too."""
_SHELL = re.compile(r"\| sh\b")

_GIVEN: ContextVar[Mapping[str, object]] = ContextVar("given", default={})  # noqa: B039  (never written to)


def tells_what_to_type(command: Callable[P, T]) -> Callable[P, T]:
    """A command on an AWS account: remedies of its errors, and what ``to_type`` makes of a text, can be copied."""

    @functools.wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> T:
        before = _GIVEN.set({name: options[name] for name in _CARRIED if options.get(name) is not None})
        try:
            return command(*args, **options)
        except MliError as error:
            if error.remedy is not None:
                error.remedy = to_type(error.remedy)
            raise
        finally:
            _GIVEN.reset(before)

    return run


def to_type(text: str) -> str:
    """``text``, in which each command has the account's options that were given now.

    They come right behind the command's name: where a command ends, a sentence does not say.
    """
    given = _GIVEN.get()
    if "profile" in given:
        text = _SHELL.sub(lambda _: f"| AWS_PROFILE={shlex.quote(str(given['profile']))} sh", text)
    return _COMMAND.sub(_with_options, text)


def _with_options(found: re.Match[str]) -> str:
    rest = re.split(r"[;\n]", found.string[found.end() :], maxsplit=1)[0]
    words = [found[0]]
    for name, value in _GIVEN.get().items():
        option, kinds = _CARRIED[name]
        if found.lastgroup in kinds and f"{option} " not in rest:
            words += [option, shlex.quote(str(value))]
    return " ".join(words)
