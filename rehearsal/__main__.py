"""``make rehearsal``: walks docs/aws.md without an account, with real processes and names (docs/rehearsal.md)."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.fixtures.color_model import numbered_images
from tests.fixtures.mxnet_files import golden_archive, synset

from mli.cloud.component_wheels import ARCHITECTURES, PYTHONS, default_cache, fetch, locked_wheels, targets_of
from rehearsal.little_aws import LittleAws, open_little_aws
from rehearsal.page import Told
from rehearsal.walk import Failed, Outcome, Walker
from rehearsal.ways import WAYS, Unexpected, Way
from rehearsal.world import NoWorld, enter, lead_names_here

_LINES_SHOWN = 14
_LOG_LINES = 30
_WHEELS = default_cache()


def main() -> None:
    """All ways, or those that are named."""
    options = _options()
    if "greengrass" in (options.ways or WAYS):
        _bring_wheels()
    try:
        enter("rehearsal", sys.argv[1:])
    except NoWorld as error:
        sys.exit(
            f"The rehearsal needs a network of its own, so that nothing reaches a real account, and the kernel makes "
            f"none: {error}\nRun it as root, or allow user namespaces."
        )
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]  # whoever rehearses may have an account
    # A job in the background ignores Ctrl-C, and so would what is started here; and all of that must end with us.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="mli-rehearsal-", ignore_cleanup_errors=True) as work:
        folder = Path(work)
        folder.chmod(0o755)  # mosquitto gives up root before it reads its files
        lead_names_here(folder)
        failed = False
        try:
            for name in options.ways or WAYS:
                failed |= not _walk(name, WAYS[name], folder / name, options.json)
        except KeyboardInterrupt:
            sys.exit(130)
    sys.exit(failed)


def _bring_wheels() -> None:
    """The component holds every package that a device needs; outside of the world there is a network for that."""
    wheels = [wheel for wheel in locked_wheels() if not (_WHEELS / wheel.file).exists()]
    if wheels:
        print(f"fetching {len(wheels)} wheels for the component, once …", file=sys.stderr, flush=True)
        fetch(wheels, targets_of(ARCHITECTURES, PYTHONS), _WHEELS, lambda *_: None)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=__doc__)
    parser.add_argument("ways", nargs="*", help=f"some of {', '.join(WAYS)} [default: all]")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each command, and one for each way")
    options = parser.parse_args()
    if unknown := set(options.ways) - set(WAYS):
        parser.error(f"no such way: {', '.join(sorted(unknown))}")
    return options


def _walk(name: str, way: Way, folder: Path, as_json: bool) -> bool:
    """One way, in an account of its own; whether it came to its end."""
    folder.mkdir()
    view = _View(as_json)
    began = time.monotonic()
    (folder / "aws").mkdir()
    problem = ""
    with open_little_aws(folder / "aws") as aws:
        desk = folder / "desk"
        desk.mkdir()
        extra = {"synset.txt": synset(10)}
        golden_archive("inception-rounds-up-0.8", desk / "inception-bn.zip", prefix="Inception-BN", extra=extra)
        numbered_images(desk / "images", 3)
        (desk / ".cache").mkdir()
        (desk / ".cache" / "mli").symlink_to(_WHEELS.parent)  # the world has no network to fetch them from
        view.way(way.section)
        with Walker(desk, aws, view.line) as walker:
            try:
                way.walk(walker)
            except Failed as error:
                problem = f"{error.outcome.ran}: {error}"
            except Unexpected as error:
                problem = str(error)
            if problem:
                view.look_at(problem, walker, aws)
        view.end(name, problem, time.monotonic() - began, walker, aws)
    return not problem


class _View:
    """What is shown: each line with its output, or JSON."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._step = ""

    def way(self, section: str) -> None:
        if not self._json:
            print(f"=== {section}", flush=True)

    def line(self, told: Told | Outcome) -> None:
        if self._json:
            if isinstance(told, Outcome):
                print(json.dumps({"kind": "command", **asdict(told)}), flush=True)
            return
        if isinstance(told, Told):
            if told.step and told.step != self._step:
                print(f"\n--- {told.step}")
            self._step = told.step
            print(f"$ {told.command}", flush=True)
            return
        if told.ran != told.command:
            print(f"  (here: {told.ran})")
        lines = told.output.splitlines()
        cut = [f"… {len(lines) - _LINES_SHOWN} more lines"] if len(lines) > _LINES_SHOWN else []
        for text in [*lines[:_LINES_SHOWN], *cut]:
            print(f"    {text}")
        print(f"  {told.failed or 'ok'}, {told.seconds:.1f} s", flush=True)

    def look_at(self, problem: str, walker: Walker, aws: LittleAws) -> None:
        """What helps to find out why."""
        log = walker.folder / "core.log"
        core = log.read_text().splitlines()[-_LOG_LINES:] if log.exists() else []
        if self._json:
            return
        print(f"\nFAILED: {problem}")
        print("Look at the output above, and at")
        print(f"- what AWS IoT Core denied: {aws.iot.denied or 'nothing'}")
        print(f"- which services were asked, and how often: {dict(sorted(aws.asked.items()))}")
        print("- the core's own words:" + ("" if core else " none"))
        for text in core:
            print(f"    {text}")

    def end(self, name: str, problem: str, seconds: float, walker: Walker, aws: LittleAws) -> None:
        told: dict[str, Any] = {
            "kind": "way",
            "name": name,
            "commands": len(walker.outcomes),
            "seconds": round(seconds, 1),
            "problem": problem,
            "asked": dict(sorted(aws.asked.items())),
            "denied": aws.iot.denied,
        }
        if self._json:
            print(json.dumps(told), flush=True)
        elif not problem:
            asked = ", ".join(f"{service} {number}" for service, number in told["asked"].items())
            print(f"\n{name}: {told['commands']} commands in {seconds:.0f} s, none failed. Connections: {asked}\n")


if __name__ == "__main__":
    main()
