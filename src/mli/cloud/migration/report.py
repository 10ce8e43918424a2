"""The report on a migration: Markdown to keep, lines for the terminal, and JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from typing import Any

from mli.cloud.migration.findings import Fate, Finding
from mli.cloud.migration.planning import Plan
from mli.cloud.migration.setup import Setup

HEADINGS: dict[Fate, str] = {
    "open": "To do, or to decide",
    "changed": "Changed on the way",
    "gone": "What mli has no counterpart for, and what takes its place",
    "carried": "Carried over",
}
_FORMS = {
    "template": "a CloudFormation template",
    "export": "an exported group",
    "folder": "a device's folder",
}


def counts(findings: Iterable[Finding]) -> dict[Fate, int]:
    """How many findings there are of each fate."""
    found = Counter(item.fate for item in findings)
    return {fate: found[fate] for fate in HEADINGS}


def report_text(setup: Setup, plan: Plan, backup: dict[str, str], files: list[str]) -> str:
    """``report.md``. The same set-up gives the same text.

    Args:
        backup: name and sha256 of each file in ``backup/``.
        files: what else was written.
    """
    lines = [f"# From Greengrass V1 to mli: {_plain(plan.thing)}", ""]
    lines += [f"Read from {_FORMS[setup.form]}, `{_plain(setup.source.name or str(setup.source))}`.", ""]
    topics = [str(item["publish"]["topic"]) for item in plan.deployment["pipelines"].values()]
    lines += ["| | |", "|---|---|", f"| thing | `{plan.thing}` |", f"| core's name | `{plan.core_name}` |"]
    lines += [
        f"| {name} | {_cell(text)} |" for name, text in (("group", setup.group), ("region", setup.region)) if text
    ]
    lines += [f"| topic | {', '.join(f'`{_cell(topic)}`' for topic in topics)} |"]
    lines += [f"| written | {', '.join(f'`{name}`' for name in files)} |", ""]
    for fate, heading in HEADINGS.items():
        found = [item for item in plan.findings if item.fate == fate]
        lines += [f"## {heading}", ""]
        if not found:
            lines += ["Nothing.", ""]
            continue
        lines += ["| part | was | is now | what to do |", "|---|---|---|---|"]
        lines += [
            f"| {_cell(item.about)} | {_cell(item.was)} | {_cell(item.becomes)} | {_cell(item.todo)} |"
            for item in found
        ]
        lines.append("")
    lines += ["## Next", "", *_next(plan, setup), "", "## Backup", ""]
    lines += [
        "Private keys may be among these; only you can read them. `sha256sum -c SHA256SUMS` there checks them.",
        "",
    ]
    lines += [f"- `{_plain(name)}` {digest}" for name, digest in backup.items()]
    return "\n".join(lines) + "\n"


def _next(plan: Plan, setup: Setup) -> list[str]:
    steps = ['1. What stands under "To do, or to decide" above.']
    if plan.device is not None:
        root = setup.source if setup.form == "folder" else "the device's folder"
        steps.append(f"2. `device.yaml` into {root}, beside `config/`; `mli config {root}` checks both.")
    if plan.parameters is not None:
        steps.append(
            f"3. The device's stack: `{_stack_command(plan.parameters, setup.region)}`, or with the AWS CLI "
            "`--parameter-overrides file://parameters.json`."
        )
    steps.append(f"4. `mli deploy deployment.yaml --thing {plan.thing}`, with `--aws` or the options of your broker.")
    if setup.processed is not None:
        steps.append("5. Only when all is proven: the old stack, with `retain.json`, as docs/migrate.md says.")
    steps.append("5. Everything in its order, with a way back at each step: docs/migrate.md.")
    return [f"{index}. {step.partition('. ')[2]}" for index, step in enumerate(steps, 1)]


def _stack_command(parameters: dict[str, str], region: str | None) -> str:
    options = {
        "--certificate": "CertIdParam",
        "--model": "ModelS3Uri",
        "--sha256": "ModelSha256",
        "--source": "Source",
    }
    words = ["mli", "stack", "deploy", parameters["CoreName"]]
    words += ["--adopt"] if parameters.get("Adopt") == "true" else []
    for option, name in options.items():
        if name in parameters:
            words += [option, parameters[name]]
    words += ["--region", region] if region else []
    return shlex.join(words)


def report_json(setup: Setup, plan: Plan, **more: Any) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "form": setup.form,
        "source": str(setup.source),
        "complete": not plan.missing,
        "missing": plan.missing,
        "thing": plan.thing,
        "core_name": plan.core_name,
        "group": setup.group,
        "region": setup.region,
        "deployment": plan.deployment,
        "device": plan.device,
        "parameters": plan.parameters,
        **more,
        "counts": counts(plan.findings),
        "findings": [item.to_json() for item in plan.findings],
    }


def _plain(text: object) -> str:
    """One line, without what a terminal or Markdown would act on."""
    line = " ".join(str(text).split())
    return "".join(character for character in line if character.isprintable()).replace("`", "'")


def _cell(text: str) -> str:
    plain = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("<", "\\<")
