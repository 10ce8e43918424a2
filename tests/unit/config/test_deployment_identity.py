"""What makes two deployments the same, and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.config.deployments import BASE, SHA, device_of, parse
from tests.unit.config.json_schema_check import check
from tests.unit.config.pem_texts import OTHER_KEY, PUBLIC_KEY

from mli.config.deployment import parse_deployment, read_deployment
from mli.config.files import load_run_file
from mli.config.json_schemas import deployment_json_schema
from mli.config.settings import AllowSettings, DeviceSettings, MqttSettings

LONG = {
    "models": {"main": {"uri": "s3://bucket/m.zip", "sha256": SHA}},
    "pipelines": {
        "main": {
            "model": "main",
            "source": {"kind": "images", "uri": "images", "interval": 0.2, "once": True},
            "top": 3,
            "publish": {"topic": "a/{thing}", "payload": "full", "qos": 1},
            "preprocess": {"mean": [127.5], "scale": [0.5, 0.5, 1]},
            "limits": {"memory": 1024**3, "frame_timeout": 15},
            "rules": [{"name": "r", "when": {"label": ["bottle é"]}, "then": {"command": "divert"}}],
        }
    },
}
SHORT = f"""\
revision: 3
model: {{uri: "s3://bucket/m.zip", sha256: {SHA}}}
source: images
interval: 200ms
once: yes
top: 3
topic: a/{{thing}}
payload: full
preprocess: {{mean: 127.5, scale: [0.5, 0.5, 1.0]}}
limits: {{memory: 1GB}}
rules: [{{name: r, when: {{label: bottle é, confidence: 0}}, then: {{command: divert}}}}]
"""


def identity(text: str | bytes, **options: Any) -> str:
    return parse(Path("/device"), text, check_files=False, **options).identity


def test_all_spellings_of_a_deployment_have_one_identity() -> None:
    value = {"revision": 9, **LONG}
    spellings: list[str | bytes] = [
        SHORT,
        yaml.safe_dump(value),
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True),
        json.dumps(value),
        json.dumps(value, indent="\t", ensure_ascii=False),
        b"\xef\xbb\xbf" + SHORT.encode(),
        f"# a comment\n{SHORT}thing: line-7\nbackend: auto\nqos: 1\n",
    ]
    bytes_of = [text if isinstance(text, bytes) else text.encode() for text in spellings]
    assert {identity(text) for text in bytes_of} == {identity(SHORT)}
    assert {read_deployment(text, "d").identity for text in bytes_of} == {identity(SHORT)}


def test_the_identity_stays_what_it_was() -> None:
    """It is stored on devices and compared over versions: a change of it forgets every quarantine and history."""
    assert identity(SHORT) == "ee4b04dbd7c55f6dde551d05eafe62b9392f60a3521638ba175519f98bff6a18"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("m.zip", "n.zip"),
        (SHA, "0" + SHA[1:]),
        ("200ms", "201ms"),
        ("top: 3", "top: 4"),
        ("bottle é", "bottle e"),
        ("source: images", "source: images/left"),
        ("1GB", "2GB"),
        ("127.5", "127"),
        ("limits:", f"trust: {json.dumps(PUBLIC_KEY)}\nlimits:"),
        ("limits:", "isolation: none\nlimits:"),
    ],
)
def test_whatever_says_something_else_has_another_identity(old: str, new: str) -> None:
    assert identity(SHORT.replace(old, new)) != identity(SHORT)


def test_keys_to_trust_count_whatever_their_order_and_lines() -> None:
    one = f"{SHORT}trust: {json.dumps([PUBLIC_KEY, OTHER_KEY])}\n"
    other = f"{SHORT}trust: {json.dumps([OTHER_KEY.replace(chr(10), chr(13) + chr(10)), PUBLIC_KEY, PUBLIC_KEY])}\n"
    assert identity(one) == identity(other)


def test_nothing_of_the_device_counts() -> None:
    folder = Path("/device")
    devices = [
        device_of(folder),
        device_of(Path("/elsewhere")),
        device_of(folder, thing="other"),
        device_of(folder, mqtt=MqttSettings("h")),
        device_of(folder, allow=AllowSettings(("/",), ("*.org",))),
        device_of(folder, min_isolation="container"),
    ]

    def of(device: DeviceSettings) -> str:
        text = SHORT.encode()
        return parse_deployment(text, device, origin="remote", folder=folder, name="d", check_files=False).identity

    assert len({of(device) for device in devices}) == 1


def test_a_file_in_another_folder_is_another_deployment(tmp_path: Path) -> None:
    """The same words name other images, and with a path as its model another model."""
    here, there = (identity(SHORT, origin="file", folder=tmp_path / name) for name in ("a", "b"))
    assert here != there
    absolute = SHORT.replace("images", str(tmp_path / "a" / "images"))
    assert identity(absolute, origin="file", folder=tmp_path / "b") == here


def test_a_file_address_is_its_path() -> None:
    assert identity(BASE.replace("s3://bucket/m.zip", "file:///device/archives/m.zip")) == identity(
        BASE.replace("s3://bucket/m.zip", "/device/archives/m.zip")
    )


def test_a_file_for_mli_run_has_the_identity_of_its_deployment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "images").mkdir()
    (tmp_path / "run.yaml").write_text(f"{BASE}thing: t\nbroker: mqtt://h\ntrust: {json.dumps(PUBLIC_KEY)}\n")
    found = load_run_file(tmp_path / "run.yaml").deployment.identity
    assert found == identity(BASE, origin="file", folder=tmp_path)


_LABELS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
_RULES = st.builds(
    lambda labels, confidence: {
        "name": "r",
        "when": {"label": labels, "confidence": confidence},
        "then": {"publish": "a"},
    },
    st.lists(_LABELS, min_size=1, max_size=3),
    st.floats(0, 1),
)
_SOURCES = st.fixed_dictionaries({"uri": st.just("images")}, optional={"interval": st.floats(0, 1e6)})
_MEANS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3)
_PIPELINES = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["m", "n"]),
        "source": _SOURCES,
        "publish": st.fixed_dictionaries({"payload": st.just("full")}, optional={"qos": st.sampled_from([0, 1])}),
    },
    optional={
        "top": st.integers(1, 1000),
        "min_confidence": st.floats(0, 1),
        "preprocess": st.fixed_dictionaries({}, optional={"mean": _MEANS}),
        "limits": st.fixed_dictionaries({}, optional={"memory": st.integers(1, 10**12)}),
        "rules": st.lists(_RULES, max_size=1),
    },
)
_MODELS = st.builds(lambda key: {"uri": f"s3://bucket/{key}"}, _LABELS.filter(lambda key: not key.endswith("/")))
_DEPLOYMENTS = st.fixed_dictionaries(
    {
        "revision": st.integers(0, 10**15 - 1),
        "models": st.fixed_dictionaries({"m": _MODELS, "n": _MODELS}),
        "pipelines": st.dictionaries(st.sampled_from(["a", "b"]), _PIPELINES, min_size=1),
    }
)


def shuffled(value: Any, draw: Any) -> Any:
    """The same with the keys of every section in another order."""
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: shuffled(value[key], draw) for key in keys}
    return [shuffled(item, draw) for item in value] if isinstance(value, list) else value


def shortened(value: dict[str, Any]) -> dict[str, Any]:
    """The same with short keys where there are some."""
    pipelines = {}
    for name, item in value["pipelines"].items():
        short = {**item, **item["publish"], **item["source"], "source": item["source"]["uri"]}
        pipelines[name] = {key: part for key, part in short.items() if key not in ("publish", "uri")}
    models = {name: item["uri"] for name, item in value["models"].items()}
    return {**value, "models": models, "pipelines": pipelines}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(_DEPLOYMENTS, st.data())
def test_identity_does_not_depend_on_how_a_deployment_is_written(value: dict[str, Any], data: st.DataObject) -> None:
    def of(text: str) -> str:
        return read_deployment(text.encode(), "d").identity

    expected = of(json.dumps(value))
    assert of(json.dumps(shuffled(value, data.draw), ensure_ascii=False)) == expected
    assert of(json.dumps(shortened(value))) == expected
    assert of(yaml.safe_dump(shuffled(value, data.draw), allow_unicode=True)) == expected
    form = read_deployment(json.dumps({**value, "revision": 1}).encode(), "d")
    assert form.identity == expected
    assert of(json.dumps(form.expanded)) == expected
    assert read_deployment(json.dumps(form.shown()).encode(), "d").identity == expected
    check(form.expanded, deployment_json_schema())
