"""The way of docs/ec2.md: from a certificate to a machine whose core is connected, and away with it."""

from __future__ import annotations

import re
from functools import partial

from rehearsal.machine import Ec2Machine
from rehearsal.page import EC2, Told, told_by
from rehearsal.walk import Outcome, Unexpected, Walker

TITLE = "A core on EC2"
THING = "gg_mli_accel"
LEFT_OUT = ("With Greengrass V2", "When it fails")
"""There is no nucleus and no Java here, and nothing fails; docs/rehearsal.md says so."""
_STACK = "mli-ec2-gg-mli-accel"
_EVENTS = f"aws cloudformation describe-stack-events --stack-name {_STACK} --output text --query "


def lines_of_page() -> list[Told]:
    """What the page says to do for mli's own core, in its order."""
    found = [told for told in told_by(EC2.read_text()) if told.section not in LEFT_OUT]
    return [Told(TITLE, told.section, told.command) for told in found]


def walk_ec2(walker: Walker) -> None:
    """Every line as it stands; the machine starts when its stack was made."""
    machine: Ec2Machine | None = None
    _do(walker, "1. The device, as any other", "mli stack deploy --shared")
    _do(walker, "1. The device, as any other", "mli model push inception-bn.zip")
    try:
        for told in lines_of_page():
            if told.command.startswith("aws ssm start-session"):
                _look(walker, told, machine)
                continue
            if told.command.startswith("aws cloudformation delete-stack") and machine is not None:
                machine.end()  # which the end of its stack does
                machine = None
            outcome = walker.do(told)
            assert outcome is not None
            _learn(walker, outcome)
            if told.command.startswith("aws cloudformation deploy"):
                machine = _started(walker, told.step)
        _do(walker, "Away with it", f"mli stack destroy {THING}")
    finally:
        if machine is not None:
            machine.end()


def _learn(walker: Walker, outcome: Outcome) -> None:
    """What the line said that the next ones want."""
    said = outcome.output.strip()
    if "create-secret" in outcome.command:
        walker.values["ARN-OF-THE-SECRET"] = said
    elif outcome.command.startswith("mli stack package"):
        found = {name: _after(said, name) for name in ("artifact", "key", "sha256")}
        walker.values |= {"SHA256-OF-THE-ARTIFACT": found["sha256"], "cp ARTIFACT ": f"cp {found['artifact']} "}
        walker.values |= {"/KEY": f"/{found['key']}", "ArtifactKey=KEY": f"ArtifactKey={found['key']}"}
    elif outcome.command.endswith("--output ArtifactBucket"):
        walker.values["ARTIFACT-BUCKET"] = said
    elif "describe-subnets" in outcome.command:
        vpc, subnet = said.split()
        walker.values |= {"VpcId=VPC": f"VpcId={vpc}", "SubnetId=SUBNET": f"SubnetId={subnet}"}


def _after(said: str, name: str) -> str:
    found = re.search(rf"(?m)^\s+{name}\s+(\S+)", said)
    if found is None:
        raise Unexpected(f"mli stack package --component did not print the {name}")
    return found[1]


def _started(walker: Walker, step: str) -> Ec2Machine:
    """The instance, after its user data, and after the stack heard of it."""
    query = "--query \"Stacks[0].Outputs[?OutputKey=='InstanceId'].OutputValue\" --output text"
    instance = _do(walker, step, f"aws cloudformation describe-stacks --stack-name {_STACK} {query}")
    machine = Ec2Machine(walker.folder / "machine", walker.aws, instance)
    try:
        walker.note(step, "(the machine starts, and runs its user data)", machine.start)
        heard = _do(walker, step, f"{_EVENTS} \"StackEvents[?LogicalResourceId=='Core'].ResourceStatusReason\"")
        if f"Received SUCCESS signal with UniqueId {instance}" not in heard:
            raise Unexpected(f"the stack did not hear of success: {heard}")
        walker.note(step, "(images come into /var/lib/mli/images)", lambda: machine.bring(walker.folder / "images"))
    except BaseException:
        machine.end()
        raise
    return machine


def _look(walker: Walker, told: Told, machine: Ec2Machine | None) -> None:
    """What is typed in the session."""
    if machine is None:
        raise Unexpected("docs/ec2.md opens a session before there is a machine")
    for line in ("sudo mli core status", "systemctl is-active mli", "systemctl show mli -p User,IPAddressDeny"):
        walker.note(told.step, f"({told.command}) {line}", partial(machine.in_session, line))


def _do(walker: Walker, step: str, command: str) -> str:
    """What the page says in words; what it said."""
    outcome = walker.do(Told(TITLE, step, command))
    assert outcome is not None
    return outcome.output.strip()
