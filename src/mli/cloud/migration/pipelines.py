"""The functions that had a model, to models and pipelines of a deployment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from mli.cloud.migration.findings import Finding
from mli.cloud.migration.intrinsics import is_open
from mli.cloud.migration.models import Choices, model_of
from mli.cloud.migration.setup import Function, Resource, Setup, Subscription
from mli.config.fields import TOPIC_BYTES
from mli.config.units import parse_duration
from mli.errors import UsageError

TOPIC = "mli/predictions/"
CLOUD = "cloud"
SOURCE = "images"
"""Folder of the device's root: where the photos are that lay in the function's own code."""
_LEAST_MEMORY_KB = 256 * 1024
"""The accelerator's first edition gave 120,000 KB, and its worker was killed by it; so would ours."""
_DEFAULT_INTERVAL_S = 5
_PREPROCESS = {"resize": "stretch", "interpolation": "bilinear", "color": "RGB", "layout": "NCHW"}
_MODEL_KINDS = ("s3-model", "sagemaker-model")
_INTERVAL = re.compile(r"(?:.*_)?(?:INTERVAL|PERIOD)(?:_(?P<unit>MS|MILLIS|MILLISECONDS|S|SEC|SECS|SECONDS))?", re.I)
_IMAGES = re.compile(r"image|photo|pictur|camera|captur|frame", re.I)
_NOT_ALLOWED = ("/", "/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/usr", "/var/run", "/lib", "/bin")


@dataclass(slots=True)
class Pipelines:
    """The two sections of a deployment, and what they came from.

    Attributes:
        paths: folders of the device that a deployment must be allowed to read.
        functions: that became pipelines.
        resources: ids of those that were carried over or told of.
        subscriptions: that became topics.
    """

    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    resources: set[str] = field(default_factory=set)
    subscriptions: list[Subscription] = field(default_factory=list)


def plan_pipelines(
    setup: Setup, choices: Choices, core_name: str, findings: list[Finding], missing: list[str]
) -> Pipelines:
    """A pipeline for each model of each function that could read it.

    Raises:
        UsageError: choices that do not fit.
    """
    made = Pipelines()
    pairs = _pairs(setup, choices, findings)
    if not pairs:
        missing.append("a model (--model-uri s3://BUCKET/KEY)")
    if len({model.source for _, model in pairs}) > 1 and (choices.model_uri or choices.model_sha256):
        raise UsageError(
            "the set-up has several models, and --model and --model-uri are for one",
            got=", ".join(model.name for _, model in pairs),
        )
    for function, model in pairs:
        name = _new_name(_stem(choices.model_uri or model.source) or model.name, made.models)
        entry = model_of(model, choices, setup, findings, missing)
        same = next((known for known, item in made.models.items() if item == entry), None)
        if same is None and entry:
            made.models[name] = entry
        made.resources.add(model.id)
        pipeline = _Pipeline(setup, function, core_name, findings, made)
        pipeline.plan("main" if len(pairs) == 1 else _new_name(model.name, made.pipelines), same or name)
    return made


def _pairs(setup: Setup, choices: Choices, findings: list[Finding]) -> list[tuple[Function | None, Resource]]:
    models = {item.id: item for item in setup.resources if item.kind in _MODEL_KINDS}
    own = [function for function in setup.functions if not function.of_aws]
    pairs: list[tuple[Function | None, Resource]] = []
    for function in own:
        pairs += [(function, models[id_]) for id_, _ in function.access if id_ in models]
    if pairs:
        return pairs
    sole = own[0] if len(own) == 1 else None
    if len(models) == 1:
        model = next(iter(models.values()))
        findings.append(
            Finding(
                "changed",
                f"model {model.name}",
                "no function has a policy to read it",
                f"the model of {sole.name}" if sole else "a pipeline with the defaults",
                "check that this is what you want",
            )
        )
        return [(sole, model)]
    if choices.model_uri and not models:
        return [(sole, Resource("", "model", "s3-model", choices.model_uri, "--model-uri"))]
    return []


class _Pipeline:
    """One pipeline, from the function that it takes the place of."""

    def __init__(
        self, setup: Setup, function: Function | None, core_name: str, findings: list[Finding], made: Pipelines
    ) -> None:
        self._setup, self._function, self._core_name = setup, function, core_name
        self._findings, self._made = findings, made
        self._about = function.name if function else "the pipeline"

    def plan(self, name: str, model: str) -> None:
        limits = self._limits()
        source, interval = self._source(), self._interval()
        pipeline: dict[str, Any] = {
            "source": {"uri": source, "interval": interval},
            "model": model,
            "preprocess": dict(_PREPROCESS),
            "publish": {"topic": self._topic(name), "image_name": True},
            "limits": limits,
        }
        isolation = self._isolation()
        if isolation:
            pipeline["isolation"] = isolation
        self._made.pipelines[name] = pipeline
        self._tell("carried", "preprocess", "stretched to the model's size, RGB, 0 to 255", "preprocess")
        self._tell("carried", "payload", "confidence, prediction, image_name", "publish.image_name: true")
        if self._function is not None and self._function not in self._made.functions:
            self._made.functions.append(self._function)

    def _tell(self, fate: Any, what: str, was: str, becomes: str = "", todo: str = "") -> None:
        self._findings.append(Finding(fate, f"{what} of {self._about}", was, becomes, todo))

    def _limits(self) -> dict[str, str]:
        function, limits = self._function, {"memory": "500MB", "frame_timeout": "15s"}
        if function is None:
            return limits
        isolation = function.isolation or self._setup.default_isolation
        if function.memory_kb is None or isolation == "NoContainer":
            was = "without a limit" if function.memory_kb is None else f"{function.memory_kb:,} KB, not enforced"
            self._tell("changed", "memory", was, "limits.memory: 500MB, which mli enforces")
        elif function.memory_kb < _LEAST_MEMORY_KB:
            why = "the accelerator's own model was killed with so little; mli needs about 180 MB for it"
            self._tell("changed", "memory", f"{function.memory_kb:,} KB", "limits.memory: 500MB", why)
        else:
            limits["memory"] = f"{function.memory_kb}KB"
            self._tell("carried", "memory", f"{function.memory_kb:,} KB", f"limits.memory: {limits['memory']}")
        if function.timeout_s:
            limits["frame_timeout"] = f"{function.timeout_s}s"
            self._tell(
                "carried", "timeout", f"{function.timeout_s} s", f"limits.frame_timeout: {function.timeout_s}s"
            )
        else:
            self._tell("changed", "timeout", "not said", "limits.frame_timeout: 15s")
        return limits

    def _isolation(self) -> str | None:
        if self._function is None:
            return None
        wanted = self._function.isolation or self._setup.default_isolation
        if wanted == "NoContainer":
            try_it = "mli's containers need no host libraries: leave the line out to have one where it works"
            self._tell("carried", "isolation", wanted, "isolation: none", try_it)
            return "none"
        becomes = "isolation: auto, a container where one works; `container` insists on it"
        self._tell("carried", "isolation", wanted or "GreengrassContainer, by default", becomes)
        return "auto"

    def _interval(self) -> str:
        found: list[tuple[str, str]] = []
        for name, text in self._function.variables if self._function else ():
            match = _INTERVAL.fullmatch(name)
            unit = "" if match is None else (match["unit"] or "").lower()
            written = text.strip()
            if unit.startswith("m") and written.isdecimal():
                written += "ms"
            if match is not None and _is_duration(written):
                found.append((name, written))
        if len(found) == 1:
            name, written = found[0]
            interval = written if written[-1:].isalpha() else f"{written}s"
            self._tell(
                "carried", "interval", f"{name}={dict(self._function.variables)[name]}", f"interval: {interval}"
            ) if self._function else None
            return interval
        why = (
            "the accelerator's code had it fixed; if yours was another, change it"
            if not found
            else ("several variables speak of one: " + ", ".join(name for name, _ in found))
        )
        self._tell("changed", "interval", "in the code", f"interval: {_DEFAULT_INTERVAL_S}s", why)
        return f"{_DEFAULT_INTERVAL_S}s"

    def _source(self) -> str:
        source = SOURCE
        volumes = self._resources("volume")
        for volume in volumes:
            self._made.resources.add(volume.id)
            if is_open(volume.source) or not _may_be_allowed(volume.source):
                self._tell(
                    "gone",
                    f"volume {volume.name}",
                    volume.source,
                    "",
                    "too wide or unknown for allow.paths; name the one folder that photos come from there",
                )
                continue
            self._made.paths.append(volume.source)
            seen = f"{volume.source}, seen as {volume.destination}" if volume.destination else volume.source
            rights = dict(self._function.access).get(volume.id) if self._function else None
            seen = ", ".join(filter(None, (seen, rights, volume.owner)))
            self._tell(
                "carried", f"volume {volume.name}", seen, "allow.paths of device.yaml, to read, under its real path"
            )
        speaking = [
            item
            for item in volumes
            if item.source in self._made.paths
            and _IMAGES.search(f"{item.name} {item.source} {item.destination or ''}")
        ]
        if len(speaking) == 1:
            source = speaking[0].source
            self._tell(
                "carried",
                "source",
                f"the volume {speaking[0].name}",
                f"source: {source}",
                "check that the photos lie in this folder itself, or name the one below",
            )
            return source
        self._tell(
            "open", "source", "photos in the function's own code, or a camera", f"source: {SOURCE}", self._bring()
        )
        return source

    def _bring(self) -> str:
        found = self._setup.on_device.images if self._setup.on_device else ()
        if found and self._setup.on_device:
            root = self._setup.on_device.root
            folders = "; ".join(
                f"cp -r {root / folder} {root / SOURCE} ({count} images)" for folder, count in found[:4]
            )
            return f"bring the photos to the folder `{SOURCE}` of the device's root: {folders}"
        return (
            f"bring the photos to the folder `{SOURCE}` of the device's root (the accelerator had them in "
            "data_source/static_images/images of its function's code), or let whatever takes them write them there"
        )

    def _resources(self, kind: str) -> list[Resource]:
        allowed = {id_ for id_, _ in self._function.access} if self._function else set()
        return [item for item in self._setup.resources if item.kind == kind and item.id in allowed]

    def _topic(self, pipeline: str) -> str:
        topic = self._said_topic()
        if any(item["publish"]["topic"] == topic for item in self._made.pipelines.values()):
            told = f"{topic}/{pipeline}"
            self._tell("changed", "topic", topic, told, "two models published on one topic; a message must say which")
            return told
        return topic

    def _said_topic(self) -> str:
        function = self._function
        ours = [
            item
            for item in self._setup.subscriptions
            if function and _is_from(item.source, function) and item.target.lower() == CLOUD
        ]
        self._made.subscriptions += ours
        usable = [item.subject for item in ours if is_topic(item.subject)]
        usable.sort(key=lambda subject: not subject.startswith(TOPIC))
        variables = dict(function.variables) if function else {}
        name = variables.get("THINGNAME", self._core_name)
        fallback = f"{TOPIC}{name if is_topic(f'{TOPIC}{name}') else self._core_name}"
        if not usable:
            was = ", ".join(item.subject for item in ours) or "no subscription to the cloud"
            self._tell("changed", "topic", was, f"topic: {fallback}", "a topic of mli is one name, without wildcards")
            return fallback
        self._tell("carried", "topic", usable[0], f"topic: {usable[0]}")
        for other in usable[1:]:
            self._tell(
                "open",
                "another topic",
                other,
                "",
                "only the code says what went there: a rule can publish on it (`rules: … then: {publish: …}`)",
            )
        return usable[0]


def _is_duration(text: str) -> bool:
    try:
        return parse_duration(text) > 0
    except ValueError:
        return False


def is_topic(subject: str) -> bool:
    """Whether mli may publish there."""
    plain = bool(subject) and not any(character in subject for character in "+#{}\0") and not is_open(subject)
    own = subject.startswith(("mli/deployments", "mli/status", "$"))
    return plain and not own and len(subject.encode(errors="replace")) <= TOPIC_BYTES


def _is_from(source: str, function: Function) -> bool:
    """Whether a subscription's end is a function, whatever version or alias of it is named."""
    return same_function(source, function.arn)


def same_function(one: str, other: str) -> bool:
    """Whether two ARNs, or two references of a template, are of one function."""
    return bool(one) and _function_base(one) == _function_base(other)


def _function_base(arn: str) -> str:
    if arn.startswith("${"):
        return re.split(r"[.}]", arn, maxsplit=1)[0]
    return ":".join(arn.split(":")[:7])


def _may_be_allowed(path: str) -> bool:
    parts = PurePosixPath(path)
    return parts.is_absolute() and ".." not in parts.parts and str(parts) not in _NOT_ALLOWED


def _stem(uri: str) -> str:
    name = uri.rstrip("/").rpartition("/")[2]
    return re.sub(r"(?:\.tar\.gz|\.tgz|\.zip)$", "", name)


def _new_name(wanted: str, taken: dict[str, Any]) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", wanted).strip("-")[:56] or "model"
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}-{number}", number + 1
    return name
