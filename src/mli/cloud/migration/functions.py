"""Tells what becomes of the functions themselves: their code, their variables, how they ran."""

from __future__ import annotations

import re

from mli.cloud.migration.findings import Fate, Finding
from mli.cloud.migration.pipelines import CLOUD, Pipelines, same_function
from mli.cloud.migration.setup import Function, Setup
from mli.config.redaction import redact

_SECRET = re.compile(r"pass|secret|token|credential|private|api_?key|access_?key", re.I)
_INTERVAL = re.compile(r"INTERVAL|PERIOD|FREQ|RATE|FPS", re.I)
_CONFIDENCE = re.compile(r"CONFIDENCE|THRESHOLD|MIN_PROB", re.I)
_TOP = re.compile(r"TOP_?[NK]?$|NUM_PREDICTIONS", re.I)
_RUNTIMES = re.compile(r"MXNET|TF_|TENSORFLOW|DLR|OMP_|OPENBLAS|LD_LIBRARY|PYTHONPATH", re.I)
_OF_AWS = {
    "GGIPDetector": "told devices of the group where the core is; without devices of its own mli needs none",
    "GGStreamManager": "mli's own queue on disk (`spool`) keeps predictions until the broker has them",
    "GGDeviceCertificateManager": "the core's own broker is gone, and with it its certificates",
    "GGCloudSpooler": "mli's own queue on disk (`spool`) keeps predictions until the broker has them",
    "GGShadowService": "settings come as deployments; the state is on mli/status/<thing>",
    "GGSecretManager": "secrets are files below secrets/ of the device's root",
    "GGLocalHttpServer": "what called it can run as a service of its own",
}


def tell_functions(setup: Setup, made: Pipelines, findings: list[Finding]) -> None:
    """Add the findings of each function."""
    for function in setup.functions:
        if function.of_aws:
            name = function.name
            todo = _OF_AWS.get(name, "a part of Greengrass V1, which mli does not need")
            findings.append(Finding("gone", f"function {name}", "a part of Greengrass itself", "", todo))
            _tell_variables(function, findings, used=False)
        elif function in made.functions:
            _tell_inference(function, findings)
        else:
            findings.append(
                Finding("gone", f"function {function.name}", _code(function), "", _place(function, setup))
            )
            _tell_variables(function, findings, used=False)
        if function in made.functions or not function.of_aws:
            _tell_run(function, setup, findings)


def _code(function: Function) -> str:
    code = function.code
    words = [] if code is None else [code.handler, code.runtime, code.uri]
    return "code of your own: " + (", ".join(filter(None, [*words, function.executable])) or function.arn)


def _tell_inference(function: Function, findings: list[Finding]) -> None:
    todo = (
        "mli takes the photo, resizes it, runs the model and publishes; if your code did more than its, "
        "a rule publishes or runs a command on a label, and a program that writes photos to a folder is a source"
    )
    findings.append(Finding("gone", f"code of {function.name}", _code(function), "a pipeline", todo))
    _tell_variables(function, findings, used=True)


def _tell_variables(function: Function, findings: list[Finding], *, used: bool) -> None:
    for name, value in function.variables:
        about = f"variable {name} of {function.name}"
        shown = "(not shown)" if _SECRET.search(name) else redact(value)
        fate, becomes, todo = _variable(name) if used else ("gone", "", "only the function's own code read it")
        findings.append(Finding(fate, about, shown, becomes, todo))


def _variable(name: str) -> tuple[Fate, str, str]:
    if name == "THINGNAME":
        return "carried", "the end of the topic", ""
    if _RUNTIMES.search(name):
        return "gone", "", "of the old runtime; mli needs neither MXNet nor its libraries"
    if _INTERVAL.search(name):
        return "carried", "source.interval, where it was one duration", "check it"
    if _CONFIDENCE.search(name):
        return "open", "", "if it was the least confidence: min_confidence of the pipeline"
    if _TOP.search(name):
        return "open", "", "if it was the number of predictions: top of the pipeline"
    if _SECRET.search(name):
        return (
            "open",
            "",
            "a secret in the clear; if something still needs it, put it below secrets/ of the device's root",
        )
    return "open", "", "only your code knows what it meant"


def _place(function: Function, setup: Setup) -> str:
    """What takes the place of a function without a model, by what it was connected to."""
    into = [item for item in setup.subscriptions if same_function(item.target, function.arn)]
    out = [item for item in setup.subscriptions if same_function(item.source, function.arn)]
    local = {id_ for id_, _ in function.access}
    devices = [item for item in setup.resources if item.id in local and item.kind == "device"]
    if any(item.subject.startswith("mli/") or "predict" in item.subject.lower() for item in into):
        return (
            "it heard the predictions: an action. A rule of the pipeline runs a command of device.yaml (`rules: … "
            "then: {command: …}`), which may be this code as a program of its own"
        )
    if devices and not into:
        return (
            "it read a device of the machine: a source. As a service of its own it can write photos to the folder "
            "`images`, which the pipeline reads"
        )
    if any(item.target.lower() == CLOUD for item in out) and not into:
        return "it published by itself: run it as a service of its own, or as a component of Greengrass V2"
    if any(item.source.lower() == CLOUD for item in into):
        return "the cloud called it: settings come as deployments (`mli deploy`); for all else, a service of its own"
    return "mli runs no Lambda functions: run it as a service of its own, or as a component of Greengrass V2"


def _tell_run(function: Function, setup: Setup, findings: list[Finding]) -> None:
    name = function.name
    if function.pinned is not None:
        becomes = "a worker that runs as long as the core" if function.pinned else "a worker that runs all the time"
        was = "pinned" if function.pinned else "on demand"
        findings.append(Finding("carried" if function.pinned else "changed", f"life of {name}", was, becomes))
    run_as = function.run_as or setup.default_run_as
    if run_as is not None:
        root = run_as.uid == "0"
        todo = (
            "nothing of mli runs as root: let the user mli read the photos"
            if root
            else ("the service's user is mli, or another by `mli device install --user`; let it read the photos")
        )
        findings.append(Finding("changed", f"user of {name}", str(run_as), "the service's user", todo))
    if function.sysfs:
        todo = "workers see no /sys; what read sensors there belongs into a command or a service"
        findings.append(Finding("gone", f"/sys for {name}", "AccessSysfs: true", "", todo))
    for what, value in (
        ("arguments", function.exec_args),
        ("runtime", function.runtime_override),
        ("encoding", function.encoding if function.encoding != "json" else None),
    ):
        if value:
            findings.append(Finding("gone", f"{what} of {name}", value, "", "only the function itself needed it"))
