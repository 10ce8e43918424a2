"""``make rehearsal``: walks the pages about AWS without an account, with real processes (docs/rehearsal.md)."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from tests.fixtures.color_model import numbered_images
from tests.fixtures.mxnet_files import golden_archive, synset

from mli.cloud.component_wheels import ARCHITECTURES, PYTHONS, default_cache, fetch, locked_wheels, targets_of
from rehearsal.little_aws import LittleAws, open_little_aws
from rehearsal.machine import is_possible
from rehearsal.page import Told
from rehearsal.report import Walked, write
from rehearsal.walk import Enough, Failed, Outcome, Unexpected, Walker
from rehearsal.ways import WAYS, Way
from rehearsal.world import NoWorld, end_all, enter, lead_names_here, processes_here

_LINES_SHOWN = 14
_LOG_LINES = 30
_WHEELS = default_cache()
_WHAT_DIFFERS = """A shell in a world of its own: *.amazonaws.com leads to stand-ins, no real account can be reached.
The pages to type are docs/aws.md, docs/migrate.md and docs/ec2.md. Here is {desk}, with inception-bn.zip and images;
leave out sudo; take a folder of yours for /var/lib/mli, and for `mli device install` there
`device mli core start --root FOLDER > core.log 2>&1 &`, where `device` takes your profile away from what it runs;
add `--ca $AWS_CA_BUNDLE` to `mli device cert`. `exit` ends it, and nothing of it stays.
"""
# A device has nobody's keys.
_SHELL = """PS1='no account \\W \\$ '
device() { (unset "${!AWS_@}"; exec "$@"); }
"""


def main() -> None:
    """All ways, or those that are named."""
    options = _options()
    if options.shell or {"greengrass", "ec2"} & set(options.ways or WAYS):
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
    for number in (signal.SIGTERM, signal.SIGHUP):  # the second: the terminal was closed
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="mli-rehearsal-", ignore_cleanup_errors=True) as work:
        folder = Path(work)
        folder.chmod(0o755)  # mosquitto gives up root before it reads its files
        lead_names_here(folder)
        if options.shell:
            _type_yourself(folder)
            return
        walked: list[Walked] = []
        try:
            for name in options.ways or _possible_ways():
                walked.append(_walk(name, WAYS[name], folder / name, options.json, options.first))
        except KeyboardInterrupt:
            sys.exit(130)
    if options.write:
        write(walked)
    sys.exit(any(one.problem for one in walked))


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
    parser.add_argument("--shell", action="store_true", help="walk nothing; a shell in there, to type it yourself")
    parser.add_argument("--first", type=int, metavar="N", help="stop after so many commands of each way")
    parser.add_argument("--write", action="store_true", help="put what came of it into docs/rehearsal.md")
    options = parser.parse_args()
    if options.shell and (options.ways or options.json or options.first or options.write):
        parser.error("--shell walks no way, so nothing else can be said with it")
    if unknown := set(options.ways) - set(WAYS):
        parser.error(f"no such way: {', '.join(sorted(unknown))}")
    return options


def _possible_ways() -> list[str]:
    """All, but what this user cannot do."""
    if is_possible():
        return list(WAYS)
    print("ec2 is left out: its machine needs root and systemd", file=sys.stderr)
    return [name for name in WAYS if name != "ec2"]


def _walk(name: str, way: Way, folder: Path, as_json: bool, most: int | None) -> Walked:
    """One way, in an account of its own."""
    folder.mkdir()
    view = _View(as_json)
    began = time.monotonic()
    (folder / "aws").mkdir()
    problem = ""
    with open_little_aws(folder / "aws") as aws:
        desk = _desk(folder)
        view.way(way.section)
        with Walker(desk, aws, view.line, most) as walker:
            try:
                with suppress(Enough):
                    way.walk(walker)
            except Failed as error:
                problem = f"{error.outcome.ran}: {error}"
            except Unexpected as error:
                problem = str(error)
            if problem:
                view.look_at(problem, walker, aws)
        seconds = round(time.monotonic() - began, 1)
        walked = Walked(name, len(walker.outcomes), seconds, problem, dict(sorted(aws.asked.items())), aws.iot.denied)
        view.end(walked)
    return walked


def _desk(folder: Path) -> Path:
    """A workstation's folder, with a model and images."""
    desk = folder / "desk"
    desk.mkdir()
    extra = {"synset.txt": synset(10)}
    golden_archive("inception-rounds-up-0.8", desk / "inception-bn.zip", prefix="Inception-BN", extra=extra)
    numbered_images(desk / "images", 3)
    (desk / ".cache").mkdir()
    (desk / ".cache" / "mli").symlink_to(_WHEELS.parent)  # the world has no network to fetch them from
    return desk


def _type_yourself(folder: Path) -> None:
    """A shell in an account that lasts as long as it does."""
    (folder / "aws").mkdir()
    with open_little_aws(folder / "aws") as aws:
        desk = _desk(folder)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        environment = {**aws.environment(), "PATH": path, "HOME": str(desk)}
        (folder / "shell").write_text(_SHELL)
        print(_WHAT_DIFFERS.format(desk=desk), flush=True)
        services = set(processes_here())
        shell = subprocess.Popen(["bash", "--noprofile", "--rcfile", folder / "shell"], cwd=desk, env=environment)
        while shell.poll() is None:
            with suppress(KeyboardInterrupt):  # meant for what runs in the shell
                shell.wait()
        end_all(set(processes_here()) - services)


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
        if len(lines) > _LINES_SHOWN:
            more = f"… {len(lines) - _LINES_SHOWN} more lines"
            # What went wrong stands at the end.
            lines = [more, *lines[-_LINES_SHOWN:]] if told.failed else [*lines[:_LINES_SHOWN], more]
        for text in lines:
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

    def end(self, walked: Walked) -> None:
        if self._json:
            print(json.dumps({"kind": "way", **asdict(walked)}), flush=True)
        elif not walked.problem:
            print(f"\n{walked.name}: {walked.commands} commands in {walked.seconds:.0f} s, none failed.")
            print(f"Connections: {walked.connections()}\n", flush=True)


if __name__ == "__main__":
    main()
