"""docs/configuration.md: its examples load, its tables name every key with its real default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pydantic
import pytest
import yaml
from tests.unit.config.json_schema_check import check
from tests.unit.config.pem_texts import CERTIFICATE, PRIVATE_KEY, PUBLIC_KEY

from mli.config import schema
from mli.config.deployment import parse_deployment
from mli.config.device import load_device
from mli.config.files import load_run_file
from mli.config.json_schemas import deployment_json_schema, device_json_schema, run_file_json_schema
from mli.errors import UsageError

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
RUN_EXAMPLES = [example for example in EXAMPLES if not example.startswith("# ")]
DEVICE_EXAMPLES = [example for example in EXAMPLES if example.startswith("# device.yaml\n")]
DEPLOYMENT_EXAMPLES = [example for example in EXAMPLES if example.startswith("# deployment.yaml\n")]
SECTIONS: dict[str, type[schema.Section]] = {
    "The device": schema.DeviceFile,
    "The store": schema.StoreFile,
    "Allow": schema.AllowFile,
    "Health": schema.HealthFile,
    "Logs": schema.LogFile,
    "The deployment": schema.DeploymentFile,
    "A model": schema.ModelFile,
    "A pipeline": schema.PipelineFile,
    "A source": schema.SourceFile,
    "Preprocessing": schema.PreprocessFile,
    "A rule": schema.RuleFile,
    "When": schema.WhenFile,
    "Then": schema.ThenFile,
    "Publishing": schema.PublishFile,
    "Limits": schema.LimitsFile,
    "The broker": schema.MqttFile,
    "TLS": schema.TlsFile,
    "The queue": schema.SpoolFile,
    "A command": schema.CommandFile,
}
TOLD_IN_WORDS = {"the only one"}
"""Required in the long form, filled in before it is checked."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that the examples name."""
    files = {
        "model.zip": "x",
        "certs/ca.pem": CERTIFICATE,
        "certs/device.pem": CERTIFICATE,
        "certs/device.key": PRIVATE_KEY,
        "certs/deploy.pub": PUBLIC_KEY,
        "state/secrets/broker": "hunter2\n",
        "secrets/store": "hunter3\n",
        "images/left/a.png": "",
        "images/right/a.png": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    return tmp_path


@pytest.mark.parametrize("example", RUN_EXAMPLES)
def test_example_loads_and_fits_the_json_schema(folder: Path, example: str) -> None:
    (folder / "run.yaml").write_text(example, encoding="utf-8")
    settings = load_run_file(folder / "run.yaml")
    assert settings.deployment.pipelines
    check(yaml.safe_load(example), run_file_json_schema())


@pytest.mark.parametrize("example", DEVICE_EXAMPLES)
def test_device_example_is_a_device_and_fits_the_json_schema(folder: Path, example: str) -> None:
    (folder / "device.yaml").write_text(example, encoding="utf-8")
    device = load_device(folder)
    assert (device.thing, device.store.secret_access_key, len(device.trust)) == ("line-7", "hunter3", 1)
    check(yaml.safe_load(example), device_json_schema())


@pytest.mark.parametrize("example", DEPLOYMENT_EXAMPLES)
def test_deployment_example_is_taken_from_the_network_by_the_devices_example(folder: Path, example: str) -> None:
    (folder / "device.yaml").write_text(DEVICE_EXAMPLES[0], encoding="utf-8")
    deployment = parse_deployment(
        example.encode(), load_device(folder), origin="remote", folder=folder, name="d.yaml", check_files=False
    )
    assert deployment.revision is not None
    check(yaml.safe_load(example), deployment_json_schema())


def test_page_has_examples_of_every_kind_of_file() -> None:
    assert len(RUN_EXAMPLES) + len(DEVICE_EXAMPLES) + len(DEPLOYMENT_EXAMPLES) == len(EXAMPLES)
    assert RUN_EXAMPLES
    assert DEVICE_EXAMPLES
    assert DEPLOYMENT_EXAMPLES


def test_long_form_of_the_page_is_its_short_form(folder: Path) -> None:
    settings = []
    for example in RUN_EXAMPLES[:2]:
        (folder / "run.yaml").write_text(example, encoding="utf-8")
        settings.append(load_run_file(folder / "run.yaml"))
    assert settings[0].device == settings[1].device
    assert settings[0].deployment == settings[1].deployment


def test_error_of_the_page_is_the_real_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    told = re.search(r"^mli: (run\.yaml: 3 errors\n.*?)\n```", PAGE, re.M | re.S)
    assert told is not None
    text = "model: model.zip\nsource: images\nsorce: images\ninterval: 5x\nlimits: {memroy: 1GB}\n"
    Path("run.yaml").write_text(text)
    with pytest.raises(UsageError) as refusal:
        load_run_file(Path("run.yaml"))
    assert str(refusal.value) == told[1]


def rows(heading: str) -> dict[str, str]:
    """Key → default of the table under a heading."""
    part = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S)
    assert part is not None, heading
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", part[1], re.M))


@pytest.mark.parametrize("heading", SECTIONS)
def test_table_names_every_key_and_no_other(heading: str) -> None:
    assert set(rows(heading)) == set(SECTIONS[heading].model_fields)


@pytest.mark.parametrize("heading", SECTIONS)
def test_defaults_of_the_table_are_the_real_ones(heading: str) -> None:
    for key, told in rows(heading).items():
        field = SECTIONS[heading].model_fields[key]
        value = re.fullmatch(r"`(.*)`", told)
        if value is not None:
            kind: Any = Annotated[(field.annotation, "the field", *field.metadata)]
            real = pydantic.TypeAdapter(kind).validate_python(yaml.safe_load(value[1]))
            assert real == field.get_default(), f"{heading}: {key}"
        elif field.is_required():
            assert told == "required" or told in TOLD_IN_WORDS, f"{heading}: {key}"
        else:
            assert told != "required", f"{heading}: {key}"
            if told == "—":
                assert field.get_default() in (None, ""), f"{heading}: {key}"


def test_every_section_of_the_schema_has_a_table() -> None:
    sections = {kind for kind in vars(schema).values() if isinstance(kind, type) and issubclass(kind, schema.Section)}
    assert sections - {schema.Section, schema.WantedFile, schema.RunFile} == set(SECTIONS.values())


def test_every_link_within_the_page_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors
