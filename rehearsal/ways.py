"""The ways: those of docs/aws.md, with what it says in words only, and those of two other pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures.greengrass_engines import EngineName

from rehearsal.ec2 import TITLE as EC2_TITLE
from rehearsal.ec2 import walk_ec2
from rehearsal.greengrass_device import Certified, Deployed, GreengrassDevice, deployed
from rehearsal.migration import TITLE as MIGRATION_TITLE
from rehearsal.migration import walk_migration
from rehearsal.page import PAGE, Told, told_by
from rehearsal.walk import Unexpected, Walker, lines

CORE, CLI, GREENGRASS = (
    "The way: mli's own core",
    "The same with the AWS CLI",
    "The other way: a component of Greengrass V2",
)

ENGINES: tuple[EngineName, ...] = ("classic", "lite")


@dataclass(frozen=True, slots=True)
class Way:
    """One walk through a section.

    Attributes:
        walk: does it.
    """

    section: str
    walk: Callable[[Walker], None]


def told_in(section: str, page: Path = PAGE) -> list[Told]:
    """What the page says there.

    Raises:
        Unexpected: nothing.
    """
    found = [told for told in told_by(page.read_text()) if told.section == section]
    if not found:
        raise Unexpected(f"docs/{page.name} has no commands under {section!r}")
    return found


def walk_core(walker: Walker) -> None:
    """Ours: every line as it stands."""
    for told in told_in(CORE):
        if told.command.startswith("mli stack destroy"):
            check_core(walker, walker.device)
        walker.do(told)
        if "CommandToDeployGroup" in told.command:
            for one in lines(CORE, told.step, ["mli watch --aws --thing gg_mli_accel"]):
                walker.do(one)
    nothing_left(walker, "gg_mli_accel")


def walk_cli(walker: Walker) -> None:
    """With the AWS CLI; the device's own steps are those of the first way."""
    root = walker.folder / "line-2"
    on_the_device = [f"cp -r images {root}/", f"mli device install --root {root}", f"mli core status --root {root}"]
    for told in told_in(CLI):
        if "delete-stack" in told.command:
            for one in lines(CLI, "watch", ["mli watch --aws --thing line-2"]):
                walker.do(one)
            check_core(walker, root)
        walker.do(told)
        if told.command.startswith("cp root.ca.pem"):
            for one in lines(CLI, "on the device", on_the_device):
                walker.do(one)
    nothing_left(walker, "line-2")


def check_core(walker: Walker, root: Path) -> None:
    """Keys came by the role alias, nothing was denied, and the core ends in order.

    Raises:
        Unexpected: one of these is not so.
    """
    problem = walker.stop(root)
    if problem:
        raise Unexpected(problem)
    if not walker.aws.asked.get("iot-credentials"):
        raise Unexpected("the device did not ask the credentials provider: where did it have its keys from?")
    nothing_denied(walker)


def nothing_denied(walker: Walker, *, but: str = "") -> None:
    """Least privilege is enough.

    Args:
        but: what may be denied.

    Raises:
        Unexpected: it was not, somewhere.
    """
    denied = [one for one in walker.aws.iot.denied if not but or but not in one]
    if denied:
        raise Unexpected(f"AWS IoT Core denied something: {denied}")


def nothing_left(walker: Walker, thing: str) -> None:
    """The thing and its policies are gone.

    Raises:
        Unexpected: they are not.
    """
    iot = walker.aws.moto.client("iot")
    things = [one["thingName"] for one in iot.list_things()["things"]]
    if thing in things:
        raise Unexpected(f"the thing {thing} is still there")
    if iot.list_policies()["policies"]:
        raise Unexpected("a policy is still there")
    # Nobody but the device may say how it is, so its last words stay, and `mli stack destroy` says so.
    nothing_denied(walker, but=f"iot:Publish on topic/mli/status/{thing}")


def walk_greengrass(walker: Walker) -> None:
    """The stack deploys; a device with either engine does what the component's recipe says."""
    thing = "line-3"
    before = [f"mli device cert {thing}", "mli stack deploy --shared", "mli model push inception-bn.zip"]
    for told in [*lines(GREENGRASS, "steps 1 and 2", before), *told_in(GREENGRASS)]:
        walker.do(told)
    outputs = "mli stack outputs line-3 --output"
    names = ("CommandToDeployGroup", "IotEndpoint", "CredentialsEndpoint")
    (command, *endpoints) = (_said(walker, f"{outputs} {name}") for name in names)
    for engine in ENGINES:
        _live(walker, engine, deployed(walker.aws, command), thing, (endpoints[0], endpoints[1]))
    walker.do(Told(GREENGRASS, "step 8", f"mli stack destroy {thing}"))
    nothing_left(walker, thing)


def _live(walker: Walker, engine: EngineName, what: Deployed, thing: str, endpoints: tuple[str, str]) -> None:
    """Install, run, watch, end."""
    folder = walker.folder / engine
    folder.mkdir()
    certified = Certified(walker.folder / "certs" / thing)
    device = GreengrassDevice(engine, folder, walker.aws, what, certified, thing, endpoints)
    step = f"a device with nucleus {engine}"
    try:
        walker.note(step, "(the nucleus fetches the artifact)", lambda: device.fetch(walker.aws))
        walker.note(step, "(the recipe's install step, without a network)", device.install)
        walker.note(step, "(the recipe's run step)", device.run)
        walker.do(Told(GREENGRASS, step, f"mli watch --aws --thing {thing}"))
        walker.note(step, "(SIGTERM, as the nucleus ends a component)", device.stop)
    finally:
        device.end()
    nothing_denied(walker)


def _said(walker: Walker, line: str) -> str:
    outcome = walker.do(Told(GREENGRASS, "what the device is told", line))
    assert outcome is not None
    return outcome.output.strip()


WAYS = {
    "core": Way(CORE, walk_core),
    "cli": Way(CLI, walk_cli),
    "greengrass": Way(GREENGRASS, walk_greengrass),
    "migrate": Way(MIGRATION_TITLE, walk_migration),
    "ec2": Way(EC2_TITLE, walk_ec2),
}
