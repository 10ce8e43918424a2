"""From checked files to frozen settings: names resolved, paths absolute, secrets read, parts checked together."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from mli.config.broker_url import redact_url
from mli.config.settings import (
    CommandSettings,
    DeploymentSettings,
    DeviceSettings,
    LimitSettings,
    LogSettings,
    ModelSource,
    MqttSettings,
    PipelineSettings,
    PreprocessSettings,
    PublishSettings,
    RuleSettings,
    SourceSettings,
    SpoolSettings,
    TlsSettings,
)
from mli.nearest import nearest

if TYPE_CHECKING:
    from mli.config.schema import (
        DeploymentFile,
        DeviceFile,
        MqttFile,
        PipelineFile,
        PreprocessFile,
        RuleFile,
        SourceFile,
    )
    from mli.config.yaml_places import Location

Problems = list[tuple["Location", str]]
"""What is wrong, and at which key."""

PLAIN_PORT, TLS_PORT = 1883, 8883
_GLOB = frozenset("*?[")
_MAX_SECRET_BYTES = 64 * 1024


def build_device(file: DeviceFile, folder: Path, default_root: Path, problems: Problems) -> DeviceSettings:
    """Settings of the device; paths in the file are relative to ``folder``."""
    root = _path(folder, file.root) if file.root else default_root.absolute()
    return DeviceSettings(
        thing=file.thing,
        root=str(root),
        mqtt=None if file.mqtt is None else _mqtt(file.mqtt, file.thing, folder, root, problems),
        spool=SpoolSettings(
            max_bytes=file.spool.max_size,
            max_age_s=file.spool.max_age,
            drain_timeout_s=file.spool.drain_timeout,
        ),
        commands={name: CommandSettings(item.argv, item.timeout) for name, item in file.commands.items()},
        log=LogSettings(level=file.log_level),
    )


def build_deployment(
    file: DeploymentFile, device: DeviceSettings, folder: Path, problems: Problems
) -> DeploymentSettings:
    """Settings of what runs, checked against the device."""
    models = {}
    for name, model in file.models.items():
        path = _path(folder, model.uri)
        if "://" in model.uri:
            found = redact_url(model.uri)
            problems.append(
                (("models", name, "uri"), f"expected a path of a model archive on this machine, found {found!r}")
            )
        else:
            _check_file(path, model.uri, ("models", name, "uri"), problems)
        models[name] = ModelSource(str(path), model.sha256)
    pipelines = [_pipeline(name, item, file, device, folder, problems) for name, item in file.pipelines.items()]
    _check_topics(pipelines, problems)
    return DeploymentSettings(models, tuple(pipelines), file.revision)


def _check_topics(pipelines: list[PipelineSettings], problems: Problems) -> None:
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


def _mqtt(file: MqttFile, thing: str, folder: Path, root: Path, problems: Problems) -> MqttSettings:
    tls = None
    if file.tls is not None:
        paths = {}
        for key in ("ca", "certificate", "private_key"):
            value = getattr(file.tls, key)
            path = None if value is None else _path(folder, value)
            if path is not None:
                _check_file(path, value, ("mqtt", "tls", key), problems)
            paths[key] = None if path is None else str(path)
        if (paths["certificate"] is None) != (paths["private_key"] is None):
            problems.append((("mqtt", "tls"), "certificate and private_key belong together; one is missing"))
        tls = TlsSettings(paths["ca"], paths["certificate"], paths["private_key"], file.tls.alpn)
    return MqttSettings(
        host=file.host,
        port=file.port or (PLAIN_PORT if tls is None else TLS_PORT),
        client_id=file.client_id or thing,
        tls=tls,
        username=file.username,
        password=_secret(file.password, root, problems),
        keepalive_s=round(file.keepalive),
        protocol=file.protocol,
    )


def _secret(value: str | None, root: Path, problems: Problems) -> str | None:
    if value is None or not value.startswith("secret:"):
        return value
    name = value.removeprefix("secret:")
    path = root / "secrets" / name
    if not name or Path(name).name != name or name.startswith("."):
        problems.append((("mqtt", "password"), f"expected secret:NAME with a plain file name, found {value!r}"))
        return None
    try:
        if path.stat().st_size > _MAX_SECRET_BYTES:
            raise OSError(errno.EFBIG, f"larger than {_MAX_SECRET_BYTES:,} bytes")
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        why = error.strerror
    except UnicodeDecodeError:
        why = "not UTF-8 text"
    else:
        if secret:
            return secret
        why = "it is empty"
    problems.append((("mqtt", "password"), f"the secret {name!r} cannot be read from {path}: {why}"))
    return None


def _pipeline(
    name: str, item: PipelineFile, file: DeploymentFile, device: DeviceSettings, folder: Path, problems: Problems
) -> PipelineSettings:
    here: Location = ("pipelines", name)
    if item.model not in file.models:
        known = ", ".join(file.models)
        problems.append(
            ((*here, "model"), f"no model {item.model!r}; there is {known}{nearest(item.model, file.models)}")
        )

    def topic(template: str) -> str:
        return template.replace("{thing}", device.thing).replace("{pipeline}", name)

    rules = []
    for index, rule in enumerate(item.rules):
        _check_rule(rule, (*here, "rules", index), item, device, problems)
        rules.append(_rule(rule, None if rule.then.publish is None else topic(rule.then.publish)))
    return PipelineSettings(
        name=name,
        thing=device.thing,
        source=_source(item.source, folder, here, problems),
        model=item.model,
        publish=PublishSettings(
            topic(item.publish.topic), item.publish.payload, item.publish.qos, item.publish.image_name
        ),
        preprocess=build_preprocess(item.preprocess),
        backend=item.backend,
        threads=item.threads,
        top=item.top,
        min_confidence=item.min_confidence,
        rules=tuple(rules),
        limits=LimitSettings(item.limits.memory, item.limits.frame_timeout, item.limits.start_timeout),
    )


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


def _source(file: SourceFile, folder: Path, here: Location, problems: Problems) -> SourceSettings:
    uri = file.uri
    if file.kind == "images" and uri:
        path = _path(folder, uri)
        uri = str(path)
        if not (_exists(path) or _exists(_fixed_part(path))):
            problems.append(((*here, "source", "uri"), f"no folder, file or glob at {file.uri}"))
    return SourceSettings(
        kind=file.kind,
        uri=uri,
        interval_s=file.interval,
        once=file.once,
        frames=file.frames,
        seed=file.seed,
        max_pixels=file.max_pixels,
    )


def _path(folder: Path, text: str) -> Path:
    """An absolute path; relative ones are of the file's folder, ``~`` is the user's home."""
    try:
        return (folder / Path(text).expanduser()).absolute()
    except RuntimeError:  # ~name of an unknown user: then it is a file's own name
        return (folder / text).absolute()


def _check_file(path: Path, written: str, here: Location, problems: Problems) -> None:
    try:
        kind = "" if path.is_file() else "is a folder, not a file" if path.is_dir() else "no such file"
    except OSError as error:
        kind = error.strerror or "cannot be read"
    if kind:
        problems.append((here, f"{written}: {kind}" if Path(written) == path else f"{written}: {kind} ({path})"))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or a folder that may not be entered
        return False


def _fixed_part(path: Path) -> Path:
    """The folder before the first wildcard of a glob; the path itself where it has none."""
    for index, part in enumerate(path.parts):
        if _GLOB & set(part):
            return Path(*path.parts[:index])
    return path


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
