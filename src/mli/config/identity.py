"""What a deployment is, whatever it looks like: its canonical form and the digest of that."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mli.config.paths import absolute
from mli.config.schema import DeploymentFile, WantedFile
from mli.config.uris import file_path


def canonical_form(file: WantedFile, folder: Path | None = None) -> dict[str, Any]:
    """The long form without ``revision``, ``thing`` and defaults, so that all spellings of a deployment are the same.

    Defaults are left out, so that a later version, which knows more keys, finds the same.

    Args:
        folder: of the file, whose relative paths are then made absolute: the same words in two folders name different
            files. None leaves them as they are: from the network they are of each device's own root.
    """
    # The ``trust`` of a file for ``mli run`` is the device's.
    parts = {"models", "pipelines", "trust"} if isinstance(file, DeploymentFile) else {"models", "pipelines"}
    form = file.model_dump(mode="json", include=parts, exclude_none=True, exclude_defaults=True)
    for model in form["models"].values():
        if model["uri"].startswith("file://"):
            model["uri"] = str(file_path(model["uri"]))
        elif folder is not None and "://" not in model["uri"]:
            model["uri"] = str(absolute(folder, model["uri"]))
    for pipeline in form["pipelines"].values():
        source = pipeline["source"]
        if folder is not None and "uri" in source:
            source["uri"] = str(absolute(folder, source["uri"]))
    if "trust" in form:
        form["trust"] = sorted(set(form["trust"]))
    return form


def identity_of(form: dict[str, Any]) -> str:
    """sha256 of a canonical form, hexadecimal."""
    text = json.dumps(form, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
