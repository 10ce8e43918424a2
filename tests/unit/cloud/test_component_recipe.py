"""The recipe: what both engines of Greengrass V2 understand, and what its scripts become on each."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import botocore.session
import pytest
from botocore.validate import validate_parameters
from tests.fixtures.greengrass_engines import CutOff, Engine, EngineName

from mli.cloud.component_recipe import (
    ARTIFACT_URI,
    LARGEST_BYTES,
    VARIABLES,
    artifact_key,
    component_version,
    recipe,
    recipe_text,
)
from mli.cloud.template_text import component_template
from mli.errors import RefusedError

DIGEST = "0123456789abcdef" * 4
VERSION = component_version("0.1.0", DIGEST)
RECIPE = recipe(VERSION, DIGEST)
# As the recipe reference of Greengrass spells them; nucleus lite reads no other casing.
KEYS = {
    "": {
        *("RecipeFormatVersion", "ComponentName", "ComponentVersion", "ComponentType", "ComponentDescription"),
        *("ComponentPublisher", "ComponentConfiguration", "ComponentDependencies", "Manifests"),
    },
    "ComponentConfiguration": {"DefaultConfiguration"},
    "Manifests": {"Platform", "Lifecycle", "Artifacts"},
    "Platform": {"os", "runtime"},
    "Lifecycle": {"install", "run"},
    "install": {"Script", "Timeout"},
    "run": {"Script"},
    "Artifacts": {"Uri", "Unarchive", "Permission"},
    "Permission": {"Read", "Execute"},
}
ENGINES = [Engine("classic", "mli.core", VERSION), Engine("lite", "mli.core", VERSION)]
STEPS = ("install", "run")


def lifecycle() -> dict[str, Any]:
    steps: dict[str, Any] = RECIPE["Manifests"][0]["Lifecycle"]
    return steps


def sections(value: Any, name: str = "") -> Iterator[tuple[str, set[str]]]:
    if isinstance(value, list):
        for one in value:
            yield from sections(one, name)
    elif isinstance(value, dict):
        yield name, set(value)
        for key, inner in value.items():
            yield from sections(inner, key)


def test_keys_are_spelled_as_nucleus_lite_reads_them() -> None:
    found = list(sections({key: value for key, value in RECIPE.items() if key != "ComponentDependencies"}))
    for name, keys in found:
        if name in KEYS:
            assert keys <= KEYS[name], name
    assert {name for name, _ in found} >= set(KEYS)


def test_one_manifest_is_for_linux_and_for_both_engines() -> None:
    (manifest,) = RECIPE["Manifests"]
    assert manifest["Platform"] == {"os": "linux", "runtime": "*"}
    assert set(manifest["Lifecycle"]) == set(STEPS), "lite knows neither shutdown nor recover"
    (artifact,) = manifest["Artifacts"]
    assert artifact["Unarchive"] == "ZIP"
    assert set(artifact["Permission"]) == {"Read", "Execute"}


def test_it_is_small_enough_for_nucleus_lite_with_the_longest_address() -> None:
    address = f"s3://{'b' * 63}/{artifact_key(component_version('100.100.100rc100', DIGEST))}"
    assert len(recipe_text(VERSION, DIGEST, address).encode()) <= LARGEST_BYTES // 2


def test_a_recipe_that_nucleus_lite_would_not_read_is_refused() -> None:
    with pytest.raises(RefusedError, match="too large for nucleus lite"):
        recipe_text(VERSION, DIGEST, "s3://bucket/" + "x" * LARGEST_BYTES)


def test_install_has_time_enough_on_a_small_device() -> None:
    assert lifecycle()["install"]["Timeout"] >= 900, "both engines give 120 s by themselves"


@pytest.mark.parametrize("step", STEPS)
def test_scripts_use_only_variables_that_both_engines_replace(step: str) -> None:
    script = lifecycle()[step]["Script"]
    assert set(re.findall(r"\{([^}]*)\}?", script)) <= set(VARIABLES)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
@pytest.mark.parametrize("step", STEPS)
def test_what_an_engine_makes_of_a_script_is_a_shell_script(step: str, engine: Engine) -> None:
    script = engine.script(lifecycle()[step])
    assert "{" not in script
    done = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_script_that_lite_cuts_off_is_seen() -> None:
    engine = ENGINES[1]
    with pytest.raises(CutOff) as caught:
        engine.script('echo before; echo "${HOME}"; echo after')
    assert caught.value.script == 'echo before; echo "$'


@pytest.mark.parametrize(("name", "root"), [("classic", "/greengrass/v2"), ("lite", "/var/lib/greengrass")])
def test_paths_of_a_script(name: EngineName, root: str) -> None:
    script = re.sub("/+", "/", Engine(name, "mli.core", VERSION).script(lifecycle()["install"]))
    assert f'from="{root}/packages/artifacts-unarchived/mli.core/{VERSION}/mli-core"' in script
    assert f'"{root}/packages/artifacts/mli.core/{VERSION}/mli-core.zip"' in script
    assert f'"{root}/work/mli.core/mli"' in script


def test_run_hands_the_process_over_so_that_sigterm_reaches_it() -> None:
    *_, last = lifecycle()["run"]["Script"].strip().splitlines()
    assert last.startswith("exec ")
    assert last.endswith('-m mli component run --root "{work:path}"')


def test_the_configuration_says_all_its_keys_and_has_no_deployment_yet() -> None:
    configuration = RECIPE["ComponentConfiguration"]["DefaultConfiguration"]
    assert configuration["deployment"] == {}
    assert configuration["delivery"] == "nucleus"
    assert configuration["device"] == {}
    assert set(configuration) == {"deployment", "delivery", "device", "accessControl"}


def test_the_nucleus_publishes_for_this_thing_alone() -> None:
    access = RECIPE["ComponentConfiguration"]["DefaultConfiguration"]["accessControl"]
    (policy,) = access["aws.greengrass.ipc.mqttproxy"].values()
    assert list(access) == ["aws.greengrass.ipc.mqttproxy"]
    assert policy["operations"] == ["aws.greengrass#PublishToIoTCore"]
    patterns = [text.replace("{iot:thingName}", "thing") for text in policy["resources"]]
    assert not any("?" in text or "$" in text or "{" in text for text in patterns), "lite refuses these"

    def is_allowed(topic: str) -> bool:
        return any(fnmatchcase(topic, pattern) for pattern in patterns)

    for topic in (
        *("mli/predictions/thing", "mli/predictions/thing/line-1", "mli/actions/thing", "mli/actions/thing/reject"),
        *("mli/status/thing", "mli/status/thing/deployment"),
    ):
        assert is_allowed(topic), topic
    for topic in (
        *("mli/predictions/other", "mli/predictions/thing2", "mli/predictions", "mli/deployments/thing"),
        *("mli/status/thing/deployment/x", "mli/status/other", "$aws/things/thing/shadow/update"),
    ):
        assert not is_allowed(topic), topic


def test_credentials_come_from_the_token_exchange_service() -> None:
    (requirement,) = RECIPE["ComponentDependencies"].items()
    assert requirement[0] == "aws.greengrass.TokenExchangeService"
    assert requirement[1]["DependencyType"] == "HARD"
    assert re.fullmatch(r">=\d+\.\d+\.\d+ <\d+\.\d+\.\d+", requirement[1]["VersionRequirement"]), "lite knows no ^"


@pytest.mark.parametrize(
    ("mli", "expected"),
    [
        ("0.1.0", "0.1.0-b01234567"),
        ("1.2", "1.2.0-b01234567"),
        ("1.0rc1", "1.0.0-rc1.b01234567"),
        ("2.0.0.dev3", "2.0.0-dev3.b01234567"),
        ("2.0.0.post01", "2.0.0-post01.b01234567"),
        ("0.1.0+local.007", "0.1.0-local.v007.b01234567"),
    ],
)
def test_a_component_version_is_a_semantic_version_with_the_digest(mli: str, expected: str) -> None:
    version = component_version(mli, DIGEST)
    assert version == expected
    identifier = r"(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
    assert re.fullmatch(rf"\d+\.\d+\.\d+-{identifier}(?:\.{identifier})*", version)


def test_other_content_is_another_version() -> None:
    assert component_version("0.1.0", "a" * 64) != component_version("0.1.0", "b" * 64)


def test_the_artifact_keeps_its_name_in_s3() -> None:
    key = artifact_key(VERSION)
    assert key == f"components/mli.core/{VERSION}/mli-core.zip"
    assert re.fullmatch(r"components/[A-Za-z0-9._/-]{1,900}[A-Za-z0-9]", key), "what component.yaml allows"


def test_aws_takes_the_recipe_as_a_parameter() -> None:
    client = botocore.session.Session().create_client(
        "greengrassv2", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    shape = client.meta.service_model.operation_model("CreateComponentVersion").input_shape
    validate_parameters({"inlineRecipe": recipe_text(VERSION, DIGEST, "s3://b/k").encode()}, shape)


def test_the_template_takes_the_recipe_and_only_its_two_placeholders() -> None:
    text = recipe_text(VERSION, DIGEST)
    assert text.count("${") == 2
    assert ARTIFACT_URI in text
    assert "mli.core" in component_template(text)
    assert json.loads(text) == RECIPE
