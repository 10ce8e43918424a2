"""Decides what becomes of a set-up: the files of mli, and a finding for each of its parts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from mli.cloud.migration.findings import Finding
from mli.cloud.migration.intrinsics import is_open, open_names
from mli.cloud.migration.models import Choices
from mli.cloud.migration.pipelines import SOURCE, plan_pipelines
from mli.cloud.migration.remains import tell_remains
from mli.cloud.migration.setup import Core, Setup
from mli.cloud.names import adopted_thing
from mli.config.fields import THING
from mli.errors import UsageError

_CERTIFICATE_ID_LENGTH = 64
_TOPIC = "mli/predictions/"
_PLAIN = r"[^\x00-\x20\"'\\{}\x7f-\xa0]"
_TAKEN = {
    "ModelS3Uri": re.compile(rf"s3://[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9]/{_PLAIN}*(?<!/)"),
    "Source": re.compile(rf"{_PLAIN}+"),
    "CertIdParam": re.compile(r"[0-9a-f]{64}"),
}
"""What the template of a device's stack allows; a test compares them."""
_REGION_OF_PROVIDER = re.compile(r"\.credentials\.iot\.([a-z0-9-]+)\.amazonaws\.com")


@dataclass(slots=True)
class Plan:
    """What is written, and why.

    Attributes:
        thing: the device's name at its broker; stays what it was.
        core_name: what its topic ends in, and the stack's parameter.
        deployment: of ``deployment.yaml``.
        device: of ``device.yaml``; None where config.json says all there is to say.
        parameters: of the device's stack; None where the stack cannot have this thing.
        missing: what nobody can know from what was read, each with the option that gives it; with any of them nothing
            is written.
    """

    thing: str = ""
    core_name: str = ""
    deployment: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] | None = None
    parameters: dict[str, str] | None = None
    findings: list[Finding] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def plan(setup: Setup, choices: Choices) -> Plan:
    """Decide.

    Raises:
        UsageError: choices that do not fit what was found.
    """
    made = Plan()
    core = _core(setup, choices)
    made.thing, made.core_name = _names(setup, core, choices, made)
    pipelines = plan_pipelines(setup, choices, made.core_name, made.findings, made.missing)
    made.deployment = {"models": pipelines.models, "pipelines": pipelines.pipelines}
    log = tell_remains(setup, pipelines, made.findings)
    store = _store(setup, choices, list(pipelines.models.values()), made)
    made.device = _device(made.thing, pipelines.paths, log, store)
    made.parameters = _parameters(setup, core, made, list(pipelines.models.values()))
    _tell_topic_rights(made, [item["publish"]["topic"] for item in pipelines.pipelines.values()])
    return made


def _core(setup: Setup, choices: Choices) -> Core | None:
    if len(setup.cores) < 2:
        return setup.cores[0] if setup.cores else None
    wanted = {choices.core_name, adopted_thing(choices.core_name or "")}
    found = [core for core in setup.cores if core.thing in wanted]
    if len(found) != 1:
        things = ", ".join(str(core.thing) for core in setup.cores[:8])
        raise UsageError(
            "this set-up is of several cores",
            where=str(setup.source),
            got=things,
            remedy="--core-name says which one",
        )
    return found[0]


def _names(setup: Setup, core: Core | None, choices: Choices, made: Plan) -> tuple[str, str]:
    thing = core.thing if core is not None else None
    if thing is not None and is_open(thing):
        made.missing += _gives(open_names(thing), setup)
        thing = None
    name = choices.core_name or setup.core_name
    if name is None and thing is not None:
        name = thing.removesuffix(adopted_thing("")) or thing
    if thing is None and name is not None:
        thing = adopted_thing(name)
        made.findings.append(
            Finding(
                "changed",
                "thing",
                "not said",
                thing,
                "the accelerator's thing is the core's name and _Core; check it: aws iot describe-thing "
                f"--thing-name {thing}",
            )
        )
    elif thing is not None:
        made.findings.append(Finding("carried", "thing", thing, "thing, and the client id"))
    if not name or not thing:
        if not made.missing:
            made.missing.append("the core's name (--core-name NAME)")
        return "", ""
    _check_name(name)
    _check_name(thing)
    if core is not None and core.sync_shadow:
        made.findings.append(
            Finding(
                "gone",
                "shadow of the core",
                "SyncShadow: true",
                "",
                "what the shadow told the device, a deployment tells now; its state is on mli/status/<thing>",
            )
        )
    return thing, name


def _check_name(name: str) -> None:
    if re.search(THING, name) is None:
        raise UsageError(
            "this cannot be the name of a thing",
            expected="up to 128 letters, digits, :, _ and -",
            got=name[:140],
            remedy="--core-name NAME, or --parameter CoreName=NAME for a template",
        )


def _gives(names: list[str], setup: Setup) -> list[str]:
    """What is missing, and the option that gives it."""
    told = []
    for name in names:
        given = (
            f"--parameter {name}=…" if name in setup.open_parameters or name.startswith("AWS::") else "--core-name"
        )
        told.append(f"{name} ({given})")
    return told


def _store(setup: Setup, choices: Choices, models: list[dict[str, Any]], made: Plan) -> dict[str, str]:
    """How the device gets at its model: Greengrass V1 fetched it with a role of its service."""
    given = {"role_alias": choices.role_alias, "credentials_endpoint": choices.credentials_endpoint}
    said = {key: value for key, value in given.items() if value is not None}
    if said and (len(said) < len(given) or setup.on_device is None):
        raise UsageError(
            "the role alias and the credentials endpoint go together, into the device.yaml of a device's folder",
            got=" and ".join(f"--{key.replace('_', '-')}" for key in said),
        )
    if said or (setup.on_device is not None and "role_alias" in dict(setup.on_device.store)):
        becomes = "store of device.yaml" if said else "as config.json says"
        made.findings.append(Finding("carried", "right to read the model", "a role of Greengrass", becomes))
    elif any(model["uri"].startswith("s3://") for model in models):
        todo = (
            "`mli stack outputs CORE_NAME` says RoleAlias and CredentialsEndpoint: on the device, `mli migrate` "
            "takes them as --role-alias and --credentials-endpoint; or a new folder: `mli device bundle --stack`"
        )
        made.findings.append(Finding("open", "right to read the model", "a role of Greengrass", "a role alias", todo))
    if region := _REGION_OF_PROVIDER.search(said.get("credentials_endpoint", "")):
        said["region"] = region[1]  # else the first question about a bucket goes to us-east-1, also from China
    return said


def _device(thing: str, paths: list[str], log: dict[str, Any], store: dict[str, str]) -> dict[str, Any] | None:
    """``device.yaml``, which adds to config.json; the thing stands in it so that it can be checked alone."""
    sections: dict[str, Any] = {}
    if paths:
        sections["allow"] = {"paths": ["images", *paths]}
    if store:
        sections["store"] = store
    if log:
        sections["log"] = log
    return {"thing": thing, **sections} if sections else None


def _parameters(setup: Setup, core: Core | None, made: Plan, models: list[dict[str, Any]]) -> dict[str, str] | None:
    if made.thing not in (made.core_name, adopted_thing(made.core_name)):
        made.findings.append(
            Finding(
                "open",
                "the device's stack",
                f"the thing is {made.thing}, the topic ends in {made.core_name}",
                "",
                "the stack can take over things that are called CoreName_Core; keep this thing's certificate, and "
                "give it the policy that docs/security.md lists by hand",
            )
        )
        return None
    parameters = {"CoreName": made.core_name}
    certificate = _certificate(setup, core, made)
    if certificate is not None:
        parameters["CertIdParam"] = certificate
    if models:
        parameters["ModelS3Uri"] = models[0]["uri"]
        if "sha256" in models[0]:
            parameters["ModelSha256"] = models[0]["sha256"]
    if len(models) > 1:
        made.findings.append(
            Finding(
                "open",
                "models of the stack",
                f"{len(models)} models",
                "ModelS3Uri names the first",
                "deploy deployment.yaml with `mli deploy`, which has them all; the stack's ModelBuckets must name "
                "each bucket",
            )
        )
    if made.thing == adopted_thing(made.core_name):
        parameters["Adopt"] = "true"
    sources = [str(item["source"]["uri"]) for item in made.deployment["pipelines"].values()]
    if sources and sources[0] != SOURCE:
        parameters["Source"] = sources[0]
    return _as_the_template_takes_them(parameters, made)


def _certificate(setup: Setup, core: Core | None, made: Plan) -> str | None:
    """The certificate's id, where it is known."""
    certificate = setup.parameters.get("CertIdParam") or (core.certificate_id if core is not None else None) or ""
    if len(certificate) == _CERTIFICATE_ID_LENGTH and certificate.isalnum():
        made.findings.append(Finding("carried", "certificate", certificate, "CertIdParam of the stack"))
        return certificate
    made.findings.append(
        Finding(
            "open",
            "certificate",
            certificate if certificate and not is_open(certificate) else "not known here",
            "",
            "add CertIdParam, 64 hexadecimal digits: `aws iot list-thing-principals --thing-name "
            f"{made.thing or 'THING'}`, what stands behind cert/",
        )
    )
    return None


def _as_the_template_takes_them(parameters: dict[str, str], made: Plan) -> dict[str, str]:
    """What the stack's template would refuse is left out, and told."""
    taken = {}
    for name, value in parameters.items():
        if name in _TAKEN and not _TAKEN[name].fullmatch(value):
            todo = "give the stack another: a plain s3:// address, or a path without quotes, spaces and brackets"
            made.findings.append(Finding("open", f"{name} of the stack", value, "", todo))
        else:
            taken[name] = value
    return taken


def _tell_topic_rights(made: Plan, topics: list[str]) -> None:
    allowed = (f"{_TOPIC}{made.thing}", f"{_TOPIC}{made.core_name}")
    for topic in topics:
        if topic not in allowed and not topic.startswith(f"{allowed[0]}/"):
            made.findings.append(
                Finding(
                    "open",
                    "right to publish",
                    topic,
                    "",
                    f"the stack's policy grants {' and '.join(dict.fromkeys(allowed))}; choose one of them, or "
                    "attach a policy with iot:Publish on this topic to the certificate",
                )
            )
