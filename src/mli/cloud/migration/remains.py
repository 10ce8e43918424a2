"""Tells of every part of a set-up that did not become a pipeline: what takes its place, and what to do."""

from __future__ import annotations

import re
from typing import Any

from mli.cloud.migration.findings import Finding
from mli.cloud.migration.functions import tell_functions
from mli.cloud.migration.pipelines import CLOUD, Pipelines, same_function
from mli.cloud.migration.setup import Connector, Logger, Other, Resource, Setup, Subscription

_LEVELS = {"DEBUG": "debug", "INFO": "info", "WARN": "warning", "ERROR": "error", "FATAL": "error"}
_ORDER = ("debug", "info", "warning", "error")
_KEPT = 3
_LEAST_LOG_KB = 1024
_SLOW_KEEPALIVE_S = 300
_CONNECTOR = re.compile(r"/connectors/(?P<name>[^/]+)/versions/(?P<version>[^/]+)$")
_CONNECTORS = {
    "imageclassification": "mli itself: bring its model as an archive (`mli model import`, or `mli model pack`)",
    "objectdetection": "mli itself: bring its model as an archive that detects objects",
    "mlfeedback": "nothing here keeps photos; a rule with a command can copy those with a low confidence",
    "cloudwatchmetrics": "an IoT rule on mli/status/+, with its CloudWatch metric action",
    "dockerapplicationdeployment": "a component of Greengrass V2, aws.greengrass.DockerApplicationManager, or the "
    "system's own service",
    "raspberrypigpio": "a rule with a command of device.yaml that switches the line",
    "serialstream": "a rule with a command of device.yaml that writes to the port",
    "modbusrtu": "a rule with a command of device.yaml that speaks Modbus",
    "modbus": "a rule with a command of device.yaml that speaks Modbus",
}
_ELSE_CONNECTOR = "an IoT rule on the topic of the predictions, which calls the same service in the cloud"
_OTHERS = {
    "AWS::IAM::Role": "the stack mli-shared has roles of its own, with the least that is needed",
    "AWS::IAM::Policy": "the stack mli-shared has roles of its own, with the least that is needed",
    "AWS::S3::Bucket": "stays yours; name a model's bucket in ModelBuckets of mli-shared",
    "AWS::IoT::TopicRule": "works on, since the topic stays; it goes with the old stack",
    "AWS::IoT::Thing": "the old stack would delete the thing: keep it (docs/migrate.md, at the end)",
    "AWS::IoT::Policy": "the device's stack has a policy of its own; keep this one until that is proven",
    "AWS::IoT::Certificate": "the old stack would delete the certificate: keep it (docs/migrate.md, at the end)",
    "AWS::IoT::ThingPrincipalAttachment": "without it the device is cut off: keep it (docs/migrate.md, at the end)",
    "AWS::IoT::PolicyPrincipalAttachment": "keep it until the new policy is proven (docs/migrate.md, at the end)",
}


def tell_remains(setup: Setup, made: Pipelines, findings: list[Finding]) -> dict[str, Any]:
    """Add a finding for each part.

    Returns:
        the section ``log`` of device.yaml; empty where the defaults do.
    """
    tell_functions(setup, made, findings)
    for subscription in setup.subscriptions:
        if subscription not in made.subscriptions:
            findings.append(_subscription(subscription, setup))
    for resource in setup.resources:
        if resource.id not in made.resources:
            findings.append(_resource(resource))
    findings += [_connector(connector) for connector in setup.connectors]
    findings += [
        Finding(
            "gone",
            f"device {device.id}",
            device.thing_arn.rpartition(":thing/")[2] or device.id,
            "",
            "it talked to the core's own broker, which mli has none of: let it connect to AWS IoT Core, or to a "
            "mosquitto that bridges to it",
        )
        for device in setup.devices
    ]
    log = _log(setup.loggers, findings)
    findings += [_other(other) for other in setup.others]
    _tell_folder(setup, findings)
    findings += [
        Finding("open", "not understood", f"{item.where}: {item.what}", "", "see whether it matters to you")
        for item in setup.unread
    ]
    return log


def _end(text: str, setup: Setup) -> str:
    """One end of a subscription, for people."""
    if text.lower() == CLOUD:
        return "the cloud"
    if text.endswith("GGShadowService") or ":::function:GGShadowService" in text:
        return "the shadow service"
    for function in setup.functions:
        if same_function(text, function.arn):
            return function.name
    match = _CONNECTOR.search(text)
    if match is not None:
        return f"the connector {match['name']}"
    return text.rpartition(":thing/")[2] if ":thing/" in text else text


def _subscription(subscription: Subscription, setup: Setup) -> Finding:
    source, target = _end(subscription.source, setup), _end(subscription.target, setup)
    if "shadow service" in f"{source} {target}":
        todo = "what a shadow told the function, a deployment tells mli; its state is on mli/status/<thing>"
    elif source == "the cloud":
        todo = (
            f"mli takes deployments (`mli deploy`), and nothing else from the cloud: no {target} hears this any more"
        )
    elif target == "the cloud":
        todo = "no pipeline publishes this; a rule can (`rules: … then: {publish: …}`)"
    elif ":thing/" in f"{subscription.source}{subscription.target}":
        todo = "there is no broker on the device any more: let both ends use AWS IoT Core, or a mosquitto of your own"
    else:
        todo = "between parts of the device: a rule with a command of device.yaml hands predictions on"
    return Finding(
        "gone", f"subscription {subscription.id}", f"{source} → {subscription.subject} → {target}", "", todo
    )


def _resource(resource: Resource) -> Finding:
    about = f"{resource.kind} {resource.name}"
    if resource.kind == "device":
        return Finding("gone", about, resource.source, "", _device_hint(resource.source))
    if resource.kind == "secret":
        todo = "fetch it by hand into a file below secrets/ of the device's root; `secret:NAME` reads it"
        return Finding("gone", about, resource.source, "", todo)
    if resource.kind == "volume":
        todo = "no function with a model used it; if photos come from there, add it to allow.paths of device.yaml"
        return Finding("gone", about, resource.source, "", todo)
    todo = "no function could read it; add a pipeline with this model if it is wanted"
    return Finding("open", about, resource.source, "", todo)


def _device_hint(path: str) -> str:
    if re.match(r"/dev/(?:video|media|vchiq|vcsm|v4l)", path):
        return (
            "a camera: `mli device install --camera` lets the service see it; until a pipeline reads cameras itself, "
            "let a program write its photos to the folder `images`"
        )
    if re.match(r"/dev/(?:nvidia|dri|nvhost|nvmap|qcom|mali)", path):
        return "a graphics processor: mli infers on the processor, so nothing of mli needs it"
    return "a command of device.yaml that needs it: DeviceAllow in `systemctl edit mli` (docs/device.md)"


def _connector(connector: Connector) -> Finding:
    match = _CONNECTOR.search(connector.arn)
    name = match["name"] if match else connector.arn
    word = re.sub(r"[^a-z]", "", name.lower())
    todo = next((text for key, text in _CONNECTORS.items() if word.startswith(key)), _ELSE_CONNECTOR)
    settings = ", ".join(key for key, _ in connector.parameters[:8])
    was = f"{name}{f' with {settings}' if settings else ''}"
    return Finding("gone", f"connector {connector.id}", was, "", todo)


def _log(loggers: list[Logger], findings: list[Finding]) -> dict[str, Any]:
    section: dict[str, Any] = {}
    levels, spaces = [], []
    for logger in loggers:
        about, was = f"log of {logger.component}", f"{logger.kind}, {logger.level}"
        if logger.kind == "AWSCloudWatch":
            todo = "the CloudWatch agent can read log/ of the device's root; on Greengrass V2 the LogManager does"
            findings.append(Finding("gone", about, was, "", todo))
            continue
        level = _LEVELS.get(logger.level.upper())
        if level is None or logger.kind != "FileSystem":
            findings.append(Finding("open", about, was, "", "of no known kind; the defaults hold"))
            continue
        levels.append(level)
        if logger.space_kb:
            spaces.append(logger.space_kb)
        space = f", {logger.space_kb:,} KB" if logger.space_kb else ""
        findings.append(
            Finding(
                "carried",
                about,
                f"{was}{space}",
                f"log.level: {level}, the more talkative of both",
                "mli core logs, or log/ of the device's root",
            )
        )
    level = min(levels, key=_ORDER.index, default="info")
    if level != "info":
        section["level"] = level
    if spaces and max(spaces) >= _LEAST_LOG_KB:
        section |= {"max_size": f"{max(spaces) // (_KEPT + 1)}KB", "kept": _KEPT}
        becomes = f"log.max_size: {section['max_size']}, and {_KEPT} old files"
        findings.append(Finding("carried", "space of the logs", f"{max(spaces):,} KB", becomes))
    elif spaces:
        why = "so little holds minutes; set log.max_size and log.kept if the disk is small"
        findings.append(Finding("changed", "space of the logs", f"{max(spaces):,} KB", "4 files of 5 MB", why))
    return section


def _other(other: Other) -> Finding:
    was = f"{other.type}{f', {other.note}' if other.note else ''}"
    if other.type.startswith(("Custom::", "AWS::CloudFormation::CustomResource")):
        todo = (
            "a handler runs when this stack is deleted or this resource replaced; where it made the thing, it "
            "deletes the thing and detaches its certificates: do neither before you read docs/migrate.md to its end"
        )
        return Finding("gone", f"resource {other.name}", was, "", todo)
    todo = _OTHERS.get(other.type, "of the old stack; see whether anything else uses it before the stack goes")
    return Finding("gone", f"resource {other.name}", was, "", todo)


def _tell_folder(setup: Setup, findings: list[Finding]) -> None:
    found = setup.on_device
    if found is None:
        return
    if found.endpoint:
        becomes = "as it is: mli reads config.json"
        findings.append(Finding("carried", "endpoint", f"{found.endpoint}, port {found.port}", becomes))
    if found.keepalive_s and found.keepalive_s >= _SLOW_KEEPALIVE_S:
        todo = "mqtt: {keepalive: 60s} in device.yaml lets the broker notice sooner that a device is gone"
        findings.append(Finding("carried", "keep-alive", f"{found.keepalive_s} s", "as it is", todo))
    if found.config_problems:
        findings.append(
            Finding(
                "open", "config.json", " ".join(found.config_problems.split()), "", "until then the core cannot start"
            )
        )
    for folder, files in found.models:
        listed = ", ".join(files[:6]) + (" …" if len(files) > 6 else "")
        todo = "mli fetches the archive itself; to have it without the bucket: zip these files, `mli model verify`"
        findings.append(Finding("gone", f"unpacked model {folder}", listed, "models/ of the root", todo))
    for path in found.outside:
        findings.append(Finding("open", "a file outside of the folder", path, "", "it is not in the backup: keep it"))
    for text in found.not_backed_up:
        findings.append(Finding("open", "not in the backup", text, "", "keep it yourself, if it matters"))
