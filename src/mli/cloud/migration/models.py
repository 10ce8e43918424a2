"""Where a model of Greengrass V1 lay, as a model of a deployment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from mli.cloud.migration.findings import Finding
from mli.cloud.migration.intrinsics import is_open, open_names
from mli.cloud.migration.setup import Resource, Setup
from mli.config.uris import check_model_uri, shown_uri

_COMPILED = re.compile(r"(?:^|[^a-z])(?:dlr|neo)(?:[^a-z]|$)|sagemaker-neo", re.I)
_S3_PATH = re.compile(r"s3[.-](?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?|s3\.amazonaws\.com")
_S3_HOST = re.compile(r"(?P<bucket>[a-z0-9.-]+)\.s3(?:[.-](?P<region>[a-z0-9-]+))?\.amazonaws\.com(?:\.cn)?")


@dataclass(frozen=True, slots=True)
class Choices:
    """What whoever migrates says himself.

    Attributes:
        model_uri: address of the model, where the set-up does not say it or says another one.
        model_sha256: digest of its archive.
        role_alias, credentials_endpoint: of AWS IoT's credentials provider, as the stack's outputs say them.
    """

    core_name: str | None = None
    model_uri: str | None = None
    model_sha256: str | None = None
    role_alias: str | None = None
    credentials_endpoint: str | None = None


def model_of(
    model: Resource, choices: Choices, setup: Setup, findings: list[Finding], missing: list[str]
) -> dict[str, Any]:
    """One entry of ``models``; empty where ``missing`` says what it lacks."""
    source = choices.model_uri or model.source
    if choices.model_uri is None and model.kind == "sagemaker-model":
        missing.append(
            f"the address of the model of {shown_uri(source) or 'a training job'} (--model-uri s3://BUCKET/KEY of "
            "its model.tar.gz, by `aws sagemaker describe-training-job`)"
        )
        return {}
    if is_open(source):
        for name in open_names(source):
            option = f"--parameter {name}=…" if name in setup.open_parameters else "--model-uri s3://BUCKET/KEY"
            missing.append(f"{name} ({option})")
        return {}
    entry = _s3_address(source)
    try:
        if not entry["uri"].startswith(("s3://", "https://")):
            raise ValueError(f"expected s3://BUCKET/KEY, found {shown_uri(source)!r}")
        check_model_uri(entry["uri"])
    except ValueError as error:
        missing.append(f"a model that can be fetched: {error} (--model-uri s3://BUCKET/KEY)")
        return {}
    if choices.model_sha256:
        entry["sha256"] = choices.model_sha256
    _tell(model, entry, setup, findings)
    return entry


def _tell(model: Resource, entry: dict[str, Any], setup: Setup, findings: list[Finding]) -> None:
    about = f"model {model.name}"
    findings.append(Finding("carried", about, shown_uri(model.source), f"models: {shown_uri(entry['uri'])}"))
    if "sha256" not in entry:
        findings.append(
            Finding(
                "open",
                f"digest of {about}",
                "Greengrass V1 had none",
                "",
                "say --model ARCHIVE once more, or let `mli model push` upload it under its digest: then nobody can "
                "change what runs",
            )
        )
    if model.owner:
        findings.append(Finding("gone", f"owner of {about}", model.owner, "the service's user", ""))
    if model.destination:
        todo = "mli unpacks it below models/ of the device's root; code that reads it there goes with the old core"
        findings.append(Finding("gone", f"place of {about}", model.destination, "models/<sha256>/", todo))
    words = (model.name, model.destination or "", entry["uri"], *(item.name for item in setup.functions))
    if any(_COMPILED.search(word) for word in words):
        findings.append(
            Finding(
                "open",
                f"kind of {about}",
                "a name that speaks of DLR or SageMaker Neo",
                "",
                "a compiled model runs nowhere else: take the one that it was compiled from (MXNet, ONNX or "
                "TensorFlow Lite), and try it with `mli model verify`",
            )
        )


def _s3_address(source: str) -> dict[str, Any]:
    """``s3://`` also where the console wrote S3's web address."""
    if not source.startswith("https://"):
        return {"uri": source}
    parts = urlsplit(source)
    host, path = parts.netloc.lower(), unquote(parts.path).lstrip("/")
    match = _S3_PATH.fullmatch(host)
    uri = f"s3://{path}"
    if match is None:
        match = _S3_HOST.fullmatch(host)
        uri = f"s3://{match['bucket']}/{path}" if match else source
    entry: dict[str, Any] = {"uri": uri}
    if match is not None and match["region"]:
        entry["region"] = match["region"]
    return entry
