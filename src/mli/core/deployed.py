"""From a deployment and its installed models to pipelines that can start: models prepared, parts checked together."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mli.config.settings import CommandSettings, DeploymentSettings, DeviceSettings, PipelineSettings
from mli.core.isolation.isolator import Isolator
from mli.core.pipeline_set import Planned
from mli.core.preparing import prepare
from mli.core.root import Root
from mli.errors import StopError, UsageError
from mli.pipeline.estimators.registry import choose_backend
from mli.pipeline.rules import RuleEngine
from mli.types import ModelSpec


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment whose models are installed and prepared.

    Attributes:
        models: as their pipelines load them, by the deployment's names.
    """

    settings: DeploymentSettings
    models: dict[str, ModelSpec]

    def planned(self) -> list[Planned]:
        """Each pipeline with its model."""
        return [Planned(item, self.models[item.model]) for item in self.settings.pipelines]


def prepare_models(
    settings: DeploymentSettings,
    installed: Mapping[str, ModelSpec],
    device: DeviceSettings,
    root: Root,
    on_note: Callable[[str], None],
    isolator: Isolator,
    cancelled: Callable[[], bool] = lambda: False,
) -> Deployed:
    """Prepare every model of a deployment, and check what can be known before a worker starts.

    Args:
        isolator: how the children are started that import and optimise.
        cancelled: whether nobody wants it any more.

    Raises:
        JobCancelled: see ``cancelled``.
        ModelRefused, ArchiveRefused: a model cannot be imported.
        StopError: a backend is not installed, or a command cannot be run here.
        UsageError: the parts do not fit each other: a rule names a label that its model lacks.
        RetryError: no room on the disk.
    """
    models = {
        name: _prepared(name, spec, settings, root, on_note, isolator, cancelled) for name, spec in installed.items()
    }
    for pipeline in settings.pipelines:
        model = models[pipeline.model]
        choose_backend(pipeline.backend, model.format)
        RuleEngine(pipeline.rules, model.labels)
        for rule in pipeline.rules:
            if rule.command is not None:
                _check_command(rule.command, device.commands[rule.command])
    return Deployed(settings, models)


def _prepared(
    name: str,
    installed: ModelSpec,
    settings: DeploymentSettings,
    root: Root,
    on_note: Callable[[str], None],
    isolator: Isolator,
    cancelled: Callable[[], bool],
) -> ModelSpec:
    """The model as its pipelines load it; one that none uses stays as it is."""
    users = [item for item in settings.pipelines if item.model == name]
    if not users:
        return installed
    widest = max(users, key=lambda item: item.limits.memory_bytes)
    size = _import_size(name, users) if installed.format == "mxnet" else None
    return prepare(
        installed,
        root,
        widest.backend,
        on_note,
        limits=widest.limits,
        import_size=size,
        isolator=isolator,
        cancelled=cancelled,
    )


def _import_size(name: str, users: list[PipelineSettings]) -> tuple[int, int] | None:
    sizes = {
        (item.preprocess.width, item.preprocess.height): item.name
        for item in users
        if item.preprocess.width and item.preprocess.height
    }
    if len(sizes) > 1:
        raise UsageError(
            f"the MXNet model {name} is imported for one input size",
            expected="the same `preprocess: {size: …}` in all pipelines that use it",
            got=", ".join(f"{width}x{height} in {user}" for (width, height), user in sizes.items()),
            remedy="name the archive twice under `models`, once for each size",
        )
    return next(iter(sizes), None)


def _check_command(name: str, command: CommandSettings) -> None:
    """A command that cannot start is better known now than when it is needed."""
    program = shutil.which(command.argv[0])
    if program is None:
        raise StopError(
            f"the command {name} cannot be run on this device",
            expected="a program that this user may execute",
            got=f"argv[0]: {command.argv[0]}",
            remedy=f"correct `commands: {{{name}: {{argv: [...]}}}}` in the device's file; use an absolute path",
        )
    with open(program, "rb") as file:
        start = file.read(4)
    if sys.platform.startswith("linux") and not start.startswith((b"#!", b"\x7fELF")):
        raise StopError(
            f"the command {name} is no program: the system would hand it to a shell",
            where=program,
            expected="an executable, or a script whose first line is #!INTERPRETER",
        )
