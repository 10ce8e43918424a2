"""From a checked deployment file to frozen settings: names resolved, paths absolute, checked against the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mli.config.paths import Problems, absolute, check_file, exists, fixed_part, lies_below, with_targets
from mli.config.settings import (
    DeploymentSettings,
    DeviceSettings,
    IsolationMode,
    LimitSettings,
    ModelSource,
    PipelineSettings,
    PreprocessSettings,
    PublishSettings,
    RuleSettings,
    SourceSettings,
)
from mli.config.uris import file_path, host_of, is_open
from mli.nearest import nearest

if TYPE_CHECKING:
    from mli.config.schema import ModelFile, PipelineFile, PreprocessFile, RuleFile, SourceFile, WantedFile
    from mli.config.yaml_places import Location

_OWN_TOPICS = ("mli/deployments", "mli/status")


@dataclass(frozen=True, slots=True)
class Reach:
    """What a deployment's names are resolved and checked against.

    Attributes:
        folder: relative paths are of it.
        remote: it came over the network, so the device's ``allow`` bounds it.
        check_files: whether archives and images must be there.
    """

    device: DeviceSettings
    folder: Path
    remote: bool = False
    check_files: bool = True


def build_deployment(file: WantedFile, reach: Reach, problems: Problems) -> DeploymentSettings:
    """Settings of what runs; whatever the device does not allow is added to ``problems``."""
    models = {name: _model(model, reach, ("models", name), problems) for name, model in file.models.items()}
    pipelines = tuple(_pipeline(name, item, file, reach, problems) for name, item in file.pipelines.items())
    _check_topics(pipelines, problems)
    return DeploymentSettings(models, pipelines, file.revision)


def build_preprocess(file: PreprocessFile) -> PreprocessSettings:
    """What a deployment changes of the model's input."""
    width, height = file.size or (None, None)
    return PreprocessSettings(
        width=width,
        height=height,
        resize=file.resize,
        interpolation=file.interpolation,
        color=file.color,
        layout=file.layout,
        mean=file.mean,
        scale=file.scale,
        pad=file.pad,
    )


def _model(file: ModelFile, reach: Reach, here: Location, problems: Problems) -> ModelSource:
    uri, place = file.uri, (*here, "uri")
    if "://" not in uri or uri.startswith("file://"):
        path = file_path(uri) if "://" in uri else absolute(reach.folder, uri)
        if _may_read(path, uri, reach, place, problems) and reach.check_files:
            check_file(path, uri, place, problems)
        uri = str(path)
    elif reach.remote and uri.startswith("https://"):
        _check_host(host_of(uri) or "", reach.device, place, problems)
    elif uri.startswith("s3://") and file.sha256 is None and _is_open(reach.device):
        problems.append(
            (
                (*here, "sha256"),
                "this key is missing; the device's store is http://, where others could change the archive",
            )
        )
    return ModelSource(uri, file.sha256, file.region)


def _is_open(device: DeviceSettings) -> bool:
    return device.store.endpoint is not None and is_open(device.store.endpoint)


def _may_read(path: Path, written: str, reach: Reach, here: Location, problems: Problems) -> bool:
    if not reach.remote or lies_below(path, reach.device.allow.paths):
        return True
    allowed = ", ".join(reach.device.allow.paths) or "none"
    problems.append(
        (
            here,
            f"{written} lies outside of the folders that a deployment from the network may read ({allowed}); the "
            "device's `allow.paths` names them",
        )
    )
    return False


def _check_host(host: str, device: DeviceSettings, here: Location, problems: Problems) -> None:
    if device.store.endpoint is not None and host == host_of(device.store.endpoint):
        return
    for pattern in device.allow.hosts:
        if host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:])):
            return
    allowed = ", ".join(device.allow.hosts) or "none"
    problems.append(
        (here, f"the device takes no archives from {host!r} (hosts: {allowed}); its `allow.hosts` names the hosts")
    )


def _pipeline(name: str, item: PipelineFile, file: WantedFile, reach: Reach, problems: Problems) -> PipelineSettings:
    here: Location = ("pipelines", name)
    device = reach.device
    if item.model not in file.models:
        known = ", ".join(file.models)
        problems.append(
            ((*here, "model"), f"no model {item.model!r}; there is {known}{nearest(item.model, file.models)}")
        )

    def topic(template: str, place: Location) -> str:
        filled = template.replace("{thing}", device.thing).replace("{pipeline}", name)
        for own in _OWN_TOPICS:
            if filled == own or filled.startswith(f"{own}/"):
                problems.append((place, f"{filled} is one of the topics by which devices are run; choose another"))
        return filled

    rules = []
    for index, rule in enumerate(item.rules):
        place: Location = (*here, "rules", index)
        _check_rule(rule, place, item, device, problems)
        publish = rule.then.publish
        rules.append(_rule(rule, None if publish is None else topic(publish, (*place, "then", "publish"))))
    publish_topic = topic(item.publish.topic, (*here, "publish", "topic"))
    return PipelineSettings(
        name=name,
        thing=device.thing,
        source=_source(item.source, reach, here, problems),
        model=item.model,
        publish=PublishSettings(publish_topic, item.publish.payload, item.publish.qos, item.publish.image_name),
        preprocess=build_preprocess(item.preprocess),
        backend=item.backend,
        threads=item.threads,
        top=item.top,
        min_confidence=item.min_confidence,
        rules=tuple(rules),
        limits=LimitSettings(item.limits.memory, item.limits.frame_timeout, item.limits.start_timeout),
        isolation=_isolation(item.isolation, device, (*here, "isolation"), problems),
    )


def _isolation(wanted: IsolationMode, device: DeviceSettings, here: Location, problems: Problems) -> IsolationMode:
    if device.min_isolation == "none":
        return wanted
    if wanted == "none":
        problems.append((here, "the device runs nothing without a container (its `min_isolation`); expected auto"))
    return "container"  # where one is the least, auto may not degrade


def _check_topics(pipelines: tuple[PipelineSettings, ...], problems: Problems) -> None:
    seen: dict[str, str] = {}
    for pipeline in pipelines:
        topic = pipeline.publish.topic
        if pipeline.publish.payload != "compact":
            continue
        # Compact payloads do not say which pipeline they are of; their topic must.
        if topic in seen:
            problems.append(
                (
                    ("pipelines", pipeline.name, "publish", "topic"),
                    f"the pipelines {seen[topic]} and {pipeline.name} both publish compact payloads on {topic}; "
                    f"use {{pipeline}} in the topic, or payload: full",
                )
            )
        seen.setdefault(topic, pipeline.name)


def _check_rule(
    rule: RuleFile, here: Location, pipeline: PipelineFile, device: DeviceSettings, problems: Problems
) -> None:
    if [item.name for item in pipeline.rules].count(rule.name) > 1:
        problems.append(((*here, "name"), f"two rules are called {rule.name!r}"))
    command = rule.then.command
    if command is not None and command not in device.commands:
        known = ", ".join(device.commands) or "none"
        problems.append(
            (
                (*here, "then", "command"),
                f"the device allows no command {command!r} (commands: {known}){nearest(command, device.commands)}",
            )
        )


def _rule(rule: RuleFile, topic: str | None) -> RuleSettings:
    return RuleSettings(
        name=rule.name,
        labels=rule.when.label,
        min_confidence=rule.when.confidence,
        matches=rule.when.matches,
        window=rule.when.of or rule.when.matches,
        cooldown_s=rule.when.cooldown,
        topic=topic,
        qos=rule.then.qos,
        command=rule.then.command,
        max_age_s=rule.then.max_age,
    )


def _source(file: SourceFile, reach: Reach, here: Location, problems: Problems) -> SourceSettings:
    uri, place = file.uri, (*here, "source", "uri")
    if file.kind == "images" and uri:
        path = absolute(reach.folder, uri)
        if (
            _may_read(path, uri, reach, place, problems)
            and reach.check_files
            and not (exists(path) or exists(fixed_part(path)))
        ):
            problems.append((place, f"no folder, file or glob at {file.uri}"))
        uri = str(path)
    return SourceSettings(
        kind=file.kind,
        uri=uri,
        interval_s=file.interval,
        once=file.once,
        frames=file.frames,
        seed=file.seed,
        max_pixels=file.max_pixels,
        below=with_targets(reach.device.allow.paths) if reach.remote and file.kind == "images" else None,
    )
