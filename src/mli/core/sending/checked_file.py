"""A deployment file, looked at on the workstation: what no device would take is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mli.config.paths import absolute, exists
from mli.errors import UsageError

_MISSING_SHA256 = (
    "{name} has no sha256: each thing takes the first archive that it finds there, pins its digest and reports it. "
    "With sha256 in the file, none takes another."
)


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A deployment that may be sent.

    Attributes:
        text: the file as it is.
        revision: its own; None where it has none.
        identity: as devices report it.
        trust: ids of the keys that it puts in place of the trusted ones; None where it leaves them.
        warnings: what is allowed, and should be known.
    """

    name: str
    text: str
    revision: int | None
    identity: str
    trust: tuple[str, ...] | None
    warnings: tuple[str, ...]


def check_file(path: Path, things: Sequence[str]) -> CheckedFile:
    """Read a deployment file.

    Args:
        things: that it is for; empty for this machine's own core.

    Raises:
        UsageError: all that is wrong with it: its form, models that lie on this machine, another thing's name.
    """
    from mli.config.deployment import read_deployment
    from mli.config.pem import trust_anchor
    from mli.config.yaml_places import read_bounded

    data = read_bounded(path)
    form = read_deployment(data, str(path))
    if things and form.thing is not None and tuple(things) != (form.thing,):
        raise UsageError(
            "the file is for one thing, and is to be sent to others",
            where=f"{path}: thing",
            expected=f"--thing {form.thing} and no other",
            got=", ".join(things[:5]) + (" …" if len(things) > 5 else ""),
            remedy="take `thing:` out of the file",
        )
    models: dict[str, dict[str, Any]] = form.expanded["models"]
    if things:
        _refuse_local(path, models)
    keys = form.expanded.get("trust")
    return CheckedFile(
        name=str(path),
        text=data.decode("utf-8-sig"),
        revision=form.revision,
        identity=form.identity,
        trust=None if keys is None else tuple(trust_anchor(key).key_id for key in keys),
        warnings=tuple(_warnings(models)) if things else (),
    )


def _refuse_local(path: Path, models: dict[str, dict[str, Any]]) -> None:
    for name, model in models.items():
        uri = model["uri"]
        if "://" in uri:
            continue
        here = exists(absolute(path.parent, uri))
        raise UsageError(
            f"the model {name} lies on this machine, where no device can fetch it"
            if here
            else f"the model {name} is named by a path, which says nothing to a device",
            where=f"{path}: models.{name}.uri",
            expected="s3://BUCKET/KEY or https://HOST/PATH",
            got=uri,
            remedy=f"Upload it (aws s3 cp {uri} s3://BUCKET/KEY) and name that. "
            "An archive that lies on every device already is file:///ITS/PATH/THERE.",
        )


def _warnings(models: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name, model in models.items():
        if model.get("sha256") is None and not model["uri"].startswith("file://"):
            yield _MISSING_SHA256.format(name=f"models.{name}")
