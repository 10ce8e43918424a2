"""What docs/greengrass.md shows: a deployment that AWS takes, and a configuration that the component takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import validate_parameters
from tests.fixtures.brokers import ROOT

from mli.cloud.component_recipe import recipe
from mli.config.component import ComponentEnvironment, read_component
from mli.config.settings import NucleusSettings

PAGE = (ROOT / "docs" / "greengrass.md").read_text()
JSON = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
(ROLLOUT,) = (value for value in JSON if "components" in value)
(CONFIGURATION,) = (value for value in JSON if "delivery" in value)


def defaults() -> dict[str, Any]:
    found: dict[str, Any] = recipe("1.0.0", "0" * 64)["ComponentConfiguration"]["DefaultConfiguration"]
    return found


def taken(configuration: dict[str, Any], root: Path) -> bytes:
    environment = ComponentEnvironment("line-3", NucleusSettings(str(root / "ipc.socket"), "token"))
    return read_component({**defaults(), **configuration}, environment, root).deployment


def test_aws_takes_the_rollout() -> None:
    client = botocore.session.Session().create_client(
        "greengrassv2", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    shape = client.meta.service_model.operation_model("CreateDeployment").input_shape
    validate_parameters(ROLLOUT, shape)


def test_the_component_takes_what_the_rollout_merges(tmp_path: Path) -> None:
    component = ROLLOUT["components"]["mli.core"]
    merged = json.loads(component["configurationUpdate"]["merge"])
    assert set(merged) <= {*defaults(), "validate_within"}
    assert json.loads(taken(merged, tmp_path))["revision"] == 7
    timeout = ROLLOUT["deploymentPolicies"]["configurationValidationPolicy"]["timeoutInSeconds"]
    assert float(merged["validate_within"].removesuffix("s")) < timeout, (
        "the answer must come before Greengrass gives up"
    )


def test_the_component_takes_the_configuration_and_the_defaults(tmp_path: Path) -> None:
    assert taken(CONFIGURATION, tmp_path)
    assert taken({}, tmp_path) == b""


def test_the_nucleus_file_names_what_the_devices_folder_has() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    system = yaml.safe_load(block)["system"]
    names = {Path(system[key]).name for key in ("certificateFilePath", "privateKeyPath", "rootCaPath")}
    assert names == {"thing.cert.pem", "thing.private.key", "root.ca.pem"}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([a-z-]+\.md)?#([a-z0-9-]+)\)", PAGE))))
def test_links_lead_to_headings(link: tuple[str, str]) -> None:
    page, anchor = link
    text = (ROOT / "docs" / page).read_text() if page else PAGE
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert anchor in {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
