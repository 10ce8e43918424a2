"""The way of docs/migrate.md: a device of the accelerator comes over, goes back, comes over again, and stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.fixtures.cfn_resolve import resolve
from tests.fixtures.greengrass_v1 import CORE, MODEL, THING
from tests.fixtures.policy_evaluator import Request, decide
from tests.fixtures.swift_server import REGION

from mli.cloud.names import SHARED_STACK
from rehearsal.old_device import TOPIC, OldDevice, here
from rehearsal.page import MIGRATION, Told, told_by
from rehearsal.walk import Unexpected, Walker

TITLE = "From Greengrass V1 to mli"
LEFT_OUT = ("simulate-principal-policy", "--retain-resources", "'DELETE_FAILED'")
"""moto knows no such simulation, and its stacks can always be updated; docs/rehearsal.md says so."""


def walk_migration(walker: Walker) -> None:
    """Every step of the page, its ways back among them."""
    old = OldDevice(walker.folder, walker.aws, walker.folder / "inception-bn.zip")
    steps = _Steps(walker, old)
    try:
        steps.keep_and_read()
        steps.compare()
        steps.make_stack()
        steps.move_device()
        steps.prove()
        steps.go_back_and_return()
        steps.retire()
        steps.make_thing_again()
    finally:
        old.core.stop()


def lines_of_page() -> list[Told]:
    """What the page says to do, in its order, without what cannot be done here."""
    found = [Told(TITLE, told.step or told.section, told.command) for told in told_by(MIGRATION.read_text())]
    return [told for told in found if not any(part in told.command for part in LEFT_OUT)]


class _Steps:
    def __init__(self, walker: Walker, old: OldDevice) -> None:
        self._walker, self._old = walker, old
        self._payloads: list[Any] = []
        walker.places |= {"/greengrass": old.root, "/root": walker.folder / "root-of-the-device"}
        walker.values |= {
            "CERTIFICATE-ID": old.certificate_id,
            "CERTIFICATE-ARN": old.certificate_arn,
            "s3://BUCKET/KEY": here(MODEL),
            "c1d2e3f4g5h6i7.credentials.iot.eu-west-1.amazonaws.com": old.credentials_endpoint,
        }

    def keep_and_read(self) -> None:
        """Steps 1 and 2."""
        for told in self._of("1. "):
            self._walker.do(told)
        for told in self._of("2. "):
            self._walker.do(told)
        report = (self._walker.folder / CORE / "report.md").read_text()
        command = f"mli stack deploy {CORE} --adopt --certificate {self._old.certificate_id} --model {here(MODEL)}"
        if command not in report:
            raise Unexpected(f"report.md does not say: {command}")

    def compare(self) -> None:
        """Step 3; the recordings are compared when there are two."""
        run, watch, *_ = self._of("3. ")
        outcome = self._walker.do(run)
        assert outcome is not None
        self._payloads = [json.loads(line) for line in outcome.output.splitlines() if line.startswith("[")]
        self._old.core.start(self._payloads)
        self._walker.do(watch)

    def make_stack(self) -> None:
        """Step 4, its way back, and once more; the old core goes on meanwhile."""
        deploy = self._of("4. ")
        for told in deploy:
            self._walker.do(told)
        step = deploy[0].step
        self._say(step, f"mli stack destroy {CORE}", f"mli watch {TOPIC} --aws")
        self._walker.do(deploy[1])
        self._may_read(here(MODEL))

    def move_device(self) -> None:
        """Step 5: the folder gets what it lacks, the old core ends, and mli's begins."""
        step, *_ = self._of("5. ")
        for told in self._of("5. "):
            if told.command == "mli device install --root /greengrass":
                self._say(step.step, f"cp -r {self._old.photos} {self._old.root}/images")
                self._old.core.stop()
            self._walker.do(told)

    def prove(self) -> None:
        """Step 6: the same predictions, then without the old policy."""
        watch, *detach = self._of("6. ")
        self._walker.do(watch)
        for told in self._of("3. ")[2:]:
            self._walker.do(told)
        for told in detach:
            self._walker.do(told)
        self._say(detach[-1].step, f"mli watch {TOPIC} --aws")

    def go_back_and_return(self) -> None:
        """The ways back of steps 6 and 5, and over once more."""
        step = "The way back"
        attach = f"aws iot attach-policy --policy-name {self._old.policy} --target {self._old.certificate_arn}"
        if attach not in self._walker.outcomes[-2].output:
            raise Unexpected(f"mli stack deploy --detach-old did not print: {attach}")
        self._say(step, attach)
        self._end_core()
        self._say(step, "rm /greengrass/device.yaml")
        with self._old_core_speaks():
            self._say(step, f"mli watch {TOPIC} --aws")
        for told in self._of("5. "):
            if told.command.startswith(("cp", "mli device install --root /greengrass")) and "dry" not in told.command:
                self._walker.do(told)
        self._say(step, f"mli watch {TOPIC} --aws", f"mli stack deploy {CORE} --detach-old")

    def retire(self) -> None:
        """The old stack goes; the thing, its certificate and the device's predictions stay."""
        for told in self._of("Retire the old stack"):
            self._walker.do(told)
        if self._old.certificate_arn not in self._walker.outcomes[-1].output:
            raise Unexpected("the certificate is no longer on the thing")
        self._say("Tidy up", f"aws iot delete-policy --policy-name {self._old.policy}", f"mli watch {TOPIC} --aws")

    def make_thing_again(self) -> None:
        """What the old handler does when it is called after all; then the page's remedy."""
        step = "If the thing is gone after all"
        self._end_core()
        thing, certificate = f"--thing-name {THING}", f"--principal {self._old.certificate_arn}"
        self._say(step, f"aws iot detach-thing-principal {thing} {certificate}", f"aws iot delete-thing {thing}")
        for told in self._of(step):
            self._walker.do(told)
        self._say(step, "mli device install --root /greengrass", f"mli watch {TOPIC} --aws")
        self._end_core()
        if denied := self._walker.aws.iot.denied:
            raise Unexpected(f"AWS IoT Core denied something: {denied}")

    def _of(self, beginning: str) -> list[Told]:
        found = [told for told in lines_of_page() if told.step.startswith(beginning)]
        if not found:
            raise Unexpected(f"docs/migrate.md has no commands under {beginning!r}")
        return found

    def _say(self, step: str, *commands: str) -> None:
        """What the page says in words, or in a line of text."""
        for command in commands:
            self._walker.do(Told(TITLE, step, command))

    def _end_core(self) -> None:
        """``mli device install --uninstall``."""
        if problem := self._walker.stop(self._old.root):
            raise Unexpected(problem)

    @contextmanager
    def _old_core_speaks(self) -> Iterator[None]:
        self._old.core.start(self._payloads)
        try:
            yield
        finally:
            self._old.core.stop()

    def _may_read(self, uri: str) -> None:
        """The role of devices allows what swift allows everybody."""
        control = self._walker.aws.moto.client("cloudformation")
        (stack,) = control.describe_stacks(StackName=SHARED_STACK)["Stacks"]
        given = {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}
        template = control.get_template(StackName=SHARED_STACK)["TemplateBody"]
        text = template if isinstance(template, str) else json.dumps(template)
        role = resolve(text, given, region=REGION).resources["DeviceRole"]
        documents = [one["PolicyDocument"] for one in role.properties["Policies"]]
        arn = f"arn:aws:s3:::{uri.removeprefix('s3://')}"
        if not decide(Request("s3:GetObject", arn), documents):
            raise Unexpected(f"devices may not read {uri}")
