"""``mli stack deploy --adopt`` against moto: the accelerator's thing and certificate are taken over."""

from __future__ import annotations

import json

import pytest
from tests.fixtures.greengrass_v1_account import attach_everything
from tests.fixtures.stack_rig import MODELS, Rig

OLD = "gg_mli_accel_Core-full-access"


@pytest.fixture
def accelerator(stack_rig: Rig) -> Rig:
    """The thing, the certificate and the policy that the accelerator's stack left."""
    iot = stack_rig.client("iot")
    iot.create_thing(thingName="gg_mli_accel_Core")
    assert attach_everything(iot, "gg_mli_accel_Core", stack_rig.certificate_arn) == OLD
    return stack_rig


def adopt(rig: Rig) -> None:
    ran = rig.stack("deploy", "gg_mli_accel", "--adopt", "--model", f"s3://{MODELS}/m.zip")
    assert ran.exit_code == 0, ran.err


def speak(rig: Rig, state: str) -> None:
    rig.client("iot-data").publish(
        topic="mli/status/gg_mli_accel_Core", qos=1, retain=True, payload=json.dumps({"state": state}).encode()
    )


def test_the_thing_and_its_only_certificate_are_taken_over_and_the_old_policy_stays_at_first(
    accelerator: Rig,
) -> None:
    adopt(accelerator)
    assert accelerator.things() == ["gg_mli_accel_Core"]
    assert OLD in accelerator.policies()
    assert len(accelerator.policies()) == 3
    outputs = accelerator.stack("outputs", "gg_mli_accel", "--json").json
    assert (outputs["ThingName"], outputs["PredictionTopic"]) == ("gg_mli_accel_Core", "mli/predictions/gg_mli_accel")
    assert accelerator.deploy("gg_mli_accel", "--adopt").out.splitlines()[1].endswith("nothing to change")


def test_without_adopt_its_name_is_told(accelerator: Rig) -> None:
    ran = accelerator.deploy("gg_mli_accel_Core")
    assert ran.exit_code == 1
    assert "mli stack deploy gg_mli_accel --adopt" in ran.err
    assert "--adopt takes over gg_mli_accel_Core" in accelerator.deploy("gg_mli_accel").err


def test_a_certificate_that_all_things_of_the_accelerator_have_is_taken_over_and_told(accelerator: Rig) -> None:
    iot = accelerator.client("iot")
    iot.create_thing(thingName="other_Core")
    iot.attach_thing_principal(thingName="other_Core", principal=accelerator.certificate_arn)
    ran = accelerator.deploy("gg_mli_accel", "--adopt")
    assert ran.exit_code == 0
    assert "the certificate also belongs to other_Core" in ran.err


def test_the_old_policy_comes_off_only_after_the_device_was_seen(accelerator: Rig) -> None:
    speak(accelerator, "online")  # before the stack: proves nothing
    adopt(accelerator)
    early = accelerator.stack("deploy", "gg_mli_accel", "--detach-old", "--yes")
    assert (early.exit_code, "It is not proven" in early.err) == (1, True)
    speak(accelerator, "offline")
    away = accelerator.stack("deploy", "gg_mli_accel", "--detach-old", "--yes")
    assert "offline since" in away.err
    assert OLD in accelerator.policies()

    speak(accelerator, "online")
    dry = accelerator.stack("deploy", "gg_mli_accel", "--detach-old", "--dry-run")
    assert (dry.exit_code, OLD in dry.err, OLD in accelerator.policies()) == (0, True, True)
    unasked = accelerator.stack("deploy", "gg_mli_accel", "--detach-old")
    assert (unasked.exit_code, OLD in accelerator.policies()) == (2, True)
    ran = accelerator.stack("deploy", "gg_mli_accel", "--detach-old", "--yes")
    assert ran.exit_code == 0
    assert f"aws iot attach-policy --policy-name {OLD} --target {accelerator.certificate_arn}" in ran.out
    assert OLD not in accelerator.policies()
    assert len(accelerator.policies()) == 2
    accelerator.client("iot").get_policy(policyName=OLD)

    again = accelerator.stack("deploy", "gg_mli_accel", "--detach-old", "--yes", "--json")
    assert (again.exit_code, again.json["detached"]) == (0, [])


def test_proven_is_the_users_own_word(accelerator: Rig) -> None:
    adopt(accelerator)
    ran = accelerator.stack("deploy", "gg_mli_accel", "--detach-old", "--proven", "--yes", "--json")
    assert ran.json["detached"] == [OLD]
    end = accelerator.stack("destroy", "gg_mli_accel", "--dry-run").out
    assert "the thing gg_mli_accel_Core, which was there before, but its certificate then has no policy" in end


def test_where_the_stacks_policy_is_not_on_the_certificate_nothing_comes_off(accelerator: Rig) -> None:
    adopt(accelerator)
    for name in accelerator.policies():
        if name != OLD:
            accelerator.client("iot").detach_policy(policyName=name, target=accelerator.certificate_arn)
    ran = accelerator.stack("deploy", "gg_mli_accel", "--detach-old", "--proven", "--yes")
    assert (ran.exit_code, "would be cut off" in ran.err, accelerator.policies()) == (1, True, [OLD])


def test_destroyed_the_adopted_thing_and_its_certificate_are_as_before(accelerator: Rig) -> None:
    adopt(accelerator)
    ran = accelerator.stack("destroy", "gg_mli_accel", "--yes")
    assert "the thing gg_mli_accel_Core, which was there before\n" in ran.out
    assert (accelerator.things(), accelerator.policies()) == (["gg_mli_accel_Core"], [OLD])
    things = accelerator.client("iot").list_principal_things(principal=accelerator.certificate_arn)["things"]
    assert things == ["gg_mli_accel_Core"]


def test_a_stack_cannot_change_between_its_own_thing_and_an_adopted_one(accelerator: Rig) -> None:
    adopt(accelerator)
    ran = accelerator.stack("deploy", "gg_mli_accel")
    assert (ran.exit_code, "took over an existing thing" in ran.err) == (1, True)


def test_a_thing_that_was_deleted_and_made_again_keeps_its_stack(accelerator: Rig) -> None:
    adopt(accelerator)
    iot = accelerator.client("iot")
    name, certificate = "gg_mli_accel_Core", accelerator.certificate_arn
    iot.detach_thing_principal(thingName=name, principal=certificate)
    iot.delete_thing(thingName=name)
    iot.create_thing(thingName=name)
    iot.attach_thing_principal(thingName=name, principal=certificate)
    ran = accelerator.stack("deploy", "gg_mli_accel", "--adopt")
    assert (ran.exit_code, len(accelerator.policies())) == (0, 3)
