"""Files to settings: short and long form, every error at once with its line, key and nearest key."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.config.json_schema_check import check
from tests.unit.config.pem_texts import CERTIFICATE, PRIVATE_KEY

from mli.config import files
from mli.config.files import RunSettings, load_run_file, settings_of_arguments, shown
from mli.config.json_schemas import run_file_json_schema
from mli.config.settings import (
    CommandSettings,
    LimitSettings,
    MqttSettings,
    PreprocessSettings,
    PublishSettings,
    RuleSettings,
    SourceSettings,
    SpoolSettings,
    TlsSettings,
)
from mli.errors import UsageError

SHORT = """\
thing: sorter
broker: mqtt://localhost
model: model.zip
source: ./images
interval: 200ms
once: true
top: 3
topic: "line/{thing}/{pipeline}"
payload: full
qos: 0
image_name: true
preprocess: {size: 64x48, mean: 127.5, scale: [0.01, 0.02, 0.03]}
limits: {memory: 1GB, frame_timeout: 2s}
commands:
  divert: {argv: [/bin/divert, --left], timeout: 2s}
rules:
  - name: plastic
    when: {label: bottle, confidence: 0.8, matches: 2, of: 3, cooldown: 1s}
    then: {publish: "act/{thing}/{pipeline}", command: divert, max_age: 500ms, qos: 0}
"""

LONG = """\
thing: sorter
mqtt: {host: localhost, port: 1883}
models:
  main: {uri: model.zip}
pipelines:
  main:
    model: main
    source: {kind: images, uri: ./images, interval: 0.2, once: true}
    top: 3
    publish: {topic: "line/{thing}/{pipeline}", payload: full, qos: 0, image_name: true}
    preprocess: {size: 64x48, mean: [127.5], scale: [0.01, 0.02, 0.03]}
    limits: {memory: 1073741824, frame_timeout: 2000ms}
    rules:
      - name: plastic
        when: {label: [bottle], confidence: 0.8, matches: 2, of: 3, cooldown: 1}
        then: {publish: "act/{thing}/{pipeline}", command: divert, max_age: 0.5s, qos: 0}
commands:
  divert: {argv: [/bin/divert, --left], timeout: 2000ms}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and images; the state folder is another, and so is the working directory."""
    folder = tmp_path / "site"
    (folder / "images" / "left").mkdir(parents=True)
    (folder / "model.zip").write_bytes(b"PK")
    (folder / "images" / "left" / "a.png").write_bytes(b"")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return folder


def load(folder: Path, text: str, overrides: dict[str, Any] | None = None) -> RunSettings:
    (folder / "run.yaml").write_text(text, encoding="utf-8")
    return load_run_file(folder / "run.yaml", overrides)


def errors(folder: Path, text: str, overrides: dict[str, Any] | None = None) -> list[str]:
    """What is wrong with a file, one line each, without the folder's name."""
    with pytest.raises(UsageError) as refusal:
        load(folder, text, overrides)
    assert refusal.value.exit_code == 2
    first, *rest = str(refusal.value).replace(f"{folder}/", "").splitlines()
    assert first == f"run.yaml: {len(rest)} error{'s' if len(rest) > 1 else ''}"
    return [line.removeprefix("  ") for line in rest]


def refusal_of(folder: Path, text: str) -> str:
    """A file that cannot be read at all."""
    with pytest.raises(UsageError) as refusal:
        load(folder, text)
    return str(refusal.value)


BASE = "model: model.zip\nsource: images\n"

# --- what a file stands for ----------------------------------------------------------------------------------


def test_short_form_is_the_long_form(folder: Path) -> None:
    short, long = load(folder, SHORT), load(folder, LONG)
    assert short.device == long.device
    assert short.deployment == long.deployment
    assert short.expanded == long.expanded


def test_every_key_reaches_its_setting(folder: Path) -> None:
    settings = load(folder, SHORT)
    (pipeline,) = settings.deployment.pipelines
    assert (pipeline.name, pipeline.thing, pipeline.model, pipeline.top) == ("main", "sorter", "main", 3)
    assert pipeline.source == SourceSettings("images", str(folder / "images"), 0.2, once=True)
    assert pipeline.publish == PublishSettings("line/sorter/main", "full", 0, image_name=True)
    assert pipeline.preprocess == PreprocessSettings(64, 48, mean=(127.5,), scale=(0.01, 0.02, 0.03))
    assert pipeline.limits == LimitSettings(1024**3, 2.0, 60.0)
    assert pipeline.rules == (
        RuleSettings("plastic", ("bottle",), 0.8, 2, 3, 1.0, "act/sorter/main", 0, "divert", 0.5),
    )
    assert settings.deployment.models["main"].uri == str(folder / "model.zip")
    assert settings.device.mqtt == MqttSettings("localhost", client_id="sorter")
    assert settings.device.commands == {"divert": CommandSettings(("/bin/divert", "--left"), 2.0)}


def test_defaults_are_the_accelerators(folder: Path) -> None:
    settings = load(folder, "thing: a:b\n" + BASE)
    (pipeline,) = settings.deployment.pipelines
    assert pipeline.source.interval_s == 5.0
    assert (pipeline.top, pipeline.min_confidence, pipeline.backend, pipeline.threads) == (1, 0.0, "auto", 0)
    assert pipeline.publish == PublishSettings("mli/predictions/a:b", "compact", 1, image_name=False)
    assert pipeline.limits == LimitSettings(500 * 1024**2, 15.0, 60.0)
    assert pipeline.preprocess == PreprocessSettings()
    assert settings.device.spool == SpoolSettings()
    assert settings.device.mqtt is None
    assert settings.device.root == str(Path(os.environ["XDG_STATE_HOME"]) / "mli" / "a_b")


def test_without_a_thing_it_is_the_machines_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "my.host/ü")
    assert load(folder, BASE).device.thing == "my-host--"


def test_device_section_reaches_its_settings(folder: Path) -> None:
    for name, text in (("ca.pem", CERTIFICATE), ("c.pem", CERTIFICATE), ("k.pem", PRIVATE_KEY)):
        (folder / name).write_text(text)
    settings = load(
        folder,
        BASE
        + """\
root: state
log: {level: debug, format: json, max_size: 1MB, kept: 5}
spool: {max_size: 10MB, max_age: 2d, drain_timeout: 1m}
mqtt:
  host: broker
  client_id: me
  tls: {ca: ca.pem, certificate: ./c.pem, private_key: k.pem, alpn: x-amzn-mqtt-ca}
  username: u
  password: p
  keepalive: 2m
  protocol: 5
""",
    )
    device = settings.device
    assert (device.root, device.log.level) == (str(folder / "state"), "debug")
    assert device.spool == SpoolSettings(10 * 1024**2, 172_800.0, 60.0)
    tls = TlsSettings(str(folder / "ca.pem"), str(folder / "c.pem"), str(folder / "k.pem"), "x-amzn-mqtt-ca")
    assert device.mqtt == MqttSettings("broker", 8883, "me", tls, "u", "p", 120, "5")


def test_paths_are_of_the_files_folder_and_of_the_working_directory_for_arguments(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_file = load(folder, BASE)
    monkeypatch.chdir(folder)
    by_arguments = settings_of_arguments({"model": "model.zip", "source": "images"})
    assert by_arguments.deployment == by_file.deployment


def test_the_memory_of_a_command_line_leaves_the_other_limits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = BASE + "limits: {memory: 1GB, frame_timeout: 2s}\n"
    assert load(folder, text, {"memory": "3GB"}).deployment.pipelines[0].limits == LimitSettings(3 * 1024**3, 2.0)
    assert load(folder, BASE, {"memory": "3GB"}).deployment.pipelines[0].limits == LimitSettings(3 * 1024**3)
    monkeypatch.chdir(folder)
    by_arguments = settings_of_arguments({"model": "model.zip", "source": "images"}, {"memory": "3GB"})
    assert by_arguments.deployment.pipelines[0].limits == LimitSettings(3 * 1024**3)


def test_the_users_home_is_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    settings = load(folder, "model: ~/model.zip\nsource: ~/images\nroot: ~/root\n")
    assert settings.deployment.models["main"].uri == str(folder / "model.zip")
    assert settings.device.root == str(folder / "root")


@pytest.mark.parametrize(
    "glob", ["images/*.png", "images/**/*.png", "images/*/left/*.png", "**/left/*.png", "images/[ab]/x"]
)
def test_a_glob_may_match_nothing_yet_if_its_folder_is_there(folder: Path, glob: str) -> None:
    settings = load(folder, f"model: model.zip\nsource: '{glob}'\n")
    assert settings.deployment.pipelines[0].source.uri == str(folder / glob)


def test_a_json_file_is_read_too(folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"model": "model.zip", "source": "images", "top": 2}))
    assert load_run_file(folder / "run.json").deployment.pipelines[0].top == 2


def test_two_pipelines_share_a_model_and_are_told_apart_by_topic(folder: Path) -> None:
    settings = load(
        folder,
        """\
thing: t
models: {only: model.zip}
pipelines:
  left: {source: images/left, topic: "p/{pipeline}"}
  right: {source: {uri: images}, interval: 1s, publish: {topic: "p/{pipeline}"}}
""",
    )
    left, right = settings.deployment.pipelines
    assert (left.model, right.model) == ("only", "only")
    assert (left.publish.topic, right.publish.topic) == ("p/left", "p/right")
    assert right.source.interval_s == 1.0


def test_the_short_form_may_name_one_of_several_models(folder: Path) -> None:
    settings = load(folder, "models: {a: model.zip, b: model.zip}\nmodel: b\nsource: images\n")
    assert settings.deployment.pipelines[0].model == "b"


def test_demo_is_the_simulated_camera(folder: Path) -> None:
    settings = load(folder, "model: model.zip\nsource: demo\nframes: 7\n")
    assert settings.deployment.pipelines[0].source == SourceSettings("demo", frames=7)


# --- options of the command line over a file -----------------------------------------------------------------

OPTIONS = {
    "thing": "other", "once": True, "interval": "9s", "topic": "o", "payload": "full", "image_name": True, "top": 5,
    "min_confidence": 0.5, "root": "/tmp/r", "mqtt": {"host": "elsewhere", "port": 1},
}  # fmt: skip


@pytest.mark.parametrize("text", [SHORT, LONG, BASE + "publish: {qos: 0}\n", BASE])
def test_options_replace_what_the_file_says_in_every_form(folder: Path, text: str) -> None:
    settings = load(folder, text, OPTIONS)
    (pipeline,) = settings.deployment.pipelines
    assert (pipeline.thing, pipeline.top, pipeline.min_confidence) == ("other", 5, 0.5)
    assert (pipeline.source.once, pipeline.source.interval_s) == (True, 9.0)
    assert pipeline.publish == replace(pipeline.publish, topic="o", payload="full", image_name=True)
    assert settings.device.root == "/tmp/r"
    assert settings.device.mqtt == MqttSettings("elsewhere", 1, "other")


def test_a_wrong_option_is_told_as_one(folder: Path) -> None:
    wrong = errors(folder, LONG, {"interval": "9x", "top": 0})
    assert wrong == [
        "command line: --interval: expected a duration such as 5s, 200ms, 1.5m, 2h or 7d, found the unit 'x'",
        "command line: --top: expected at least 1, found 0",
    ]


def test_what_an_option_replaces_need_not_be_right(folder: Path) -> None:
    text = BASE + "broker: 'http://x'\ninterval: 5x\n"
    assert len(errors(folder, text)) == 2
    assert load(folder, text, {"interval": "1s", "mqtt": {"host": "h"}}).device.mqtt is not None
    twice = BASE + "publish: {topic: a}\ntopic: b\n"
    assert len(errors(folder, twice)) == 1
    assert load(folder, twice, {"topic": "c"}).deployment.pipelines[0].publish.topic == "c"


# --- errors --------------------------------------------------------------------------------------------------


def test_all_errors_at_once_each_with_line_and_key(folder: Path) -> None:
    assert errors(
        folder,
        """\
thing: my thing
model: model.zip
sorce: ./images
source: {uri: images, intervall: 5s}
limits: {memory: lots}
mqtt:
  host: h
  keepalive: 1s
rules:
  - name: r
    when: {label: x, confidence: 2}
    then: {publish: a/#}
top: [1]
payload: ful
preprocess: {size: 3, mean: .nan}
commands: {"a b": {argv: []}}
""",
    ) == [
        "run.yaml:1: thing: expected a name of 1 to 128 letters, digits, :, _ and -, found 'my thing'",
        "run.yaml:3: sorce: unknown key; did you mean 'source'?",
        "run.yaml:4: source.intervall: unknown key; did you mean 'interval'?",
        "run.yaml:5: limits.memory: expected a size such as 500MB, 64KB or 2GB, found 'lots'",
        "run.yaml:8: mqtt.keepalive: expected 5s to 65535s, which MQTT can say, found 1s",
        "run.yaml:11: rules.0.when.confidence: expected at most 1, found 2",
        "run.yaml:12: rules.0.then.publish: expected a topic to publish on: no wildcards (+ #) and no NUL",
        "run.yaml:13: top: expected a whole number, found a list",
        "run.yaml:14: payload: expected 'compact' or 'full', found 'ful'",
        "run.yaml:15: preprocess.size: expected width x height such as 224x224, found 3",
        "run.yaml:15: preprocess.mean.0: expected a finite number, found nan",
        "run.yaml:16: commands.a b: expected a name of 1 to 64 letters, digits, _ and -, found 'a b'",
        "run.yaml:16: commands.a b.argv: expected at least one entry, found an empty list",
    ]


def test_errors_between_the_parts_come_all_at_once_too(folder: Path) -> None:
    assert errors(
        folder,
        """\
thing: t
mqtt:
  host: h
  password: secret:nowhere
  tls: {ca: no.pem, certificate: model.zip}
models:
  good: model.zip
  gone: {uri: gone.zip}
  folder: images
pipelines:
  one:
    model: god
    source: nowhere
    rules:
      - {name: r, when: {label: x}, then: {command: divrt}}
      - {name: r, when: {label: x}, then: {publish: t}}
  two: {model: good, source: images, topic: mli/predictions/t}
commands: {divert: {argv: [x]}}
root: here
""",
    ) == [
        "run.yaml:4: mqtt.password: the secret 'nowhere' cannot be read from here/secrets/nowhere: "
        "No such file or directory",
        "run.yaml:5: mqtt.tls.ca: no.pem: no such file (no.pem)",
        "run.yaml:5: mqtt.tls.certificate: model.zip: this is no PEM file",
        "run.yaml:5: mqtt.tls: certificate and private_key belong together; one is missing",
        "run.yaml:8: models.gone.uri: gone.zip: no such file (gone.zip)",
        "run.yaml:9: models.folder: images: is a folder, not a file (images)",
        "run.yaml:12: pipelines.one.model: no model 'god'; there is good, gone, folder; did you mean 'good'?",
        "run.yaml:13: pipelines.one.source: no folder, file or glob at nowhere",
        "run.yaml:15: pipelines.one.rules.0.name: two rules are called 'r'",
        "run.yaml:15: pipelines.one.rules.0.then.command: the device allows no command 'divrt' (commands: divert); "
        "did you mean 'divert'?",
        "run.yaml:16: pipelines.one.rules.1.name: two rules are called 'r'",
        "run.yaml:17: pipelines.two.topic: the pipelines one and two both publish compact payloads on "
        "mli/predictions/t; use {pipeline} in the topic, or payload: full",
    ]


RULE = BASE + "rules: [{name: r, when: {label: x}, then: {publish: t}}]\n"
SINGLE_ERRORS = [
    ("source: images\n", " model: this key is missing"),
    ("model: model.zip\n", " source: this key is missing"),
    ("model: model.zip\ninterval: 1s\n", " source: kind images needs `uri`: a folder, glob or image file"),
    (
        "models: {a: model.zip}\ntop: 3\npipelines:\n  p: {source: images}\n",
        "2: top: this key belongs to one of the pipelines: `pipelines: {NAME: {top: …}}`",
    ),
    (
        BASE + "interval: 1s\npublish: {topic: a}\ntopic: b\n",
        "4: publish.topic: given twice: here and as `topic` outside",
    ),
    ("models: {}\npipelines: {}\n", "2: pipelines: expected at least one entry, found a section of keys"),
    (
        BASE + "mqtt: {host: h}\nbroker: h\n",
        "4: broker: `broker` and `mqtt` both name the broker; keep one of them",
    ),
    (
        BASE + "broker: {host: h}\n",
        "3: broker: expected an address such as mqtt://host; a section of keys is `mqtt:`",
    ),
    (BASE + "mqtt: mqtt://u:pw@h\n", "3: mqtt: expected a section of keys, found 'mqtt://u:***@h'"),
    (
        BASE + "mqtt: {host: h, password: 1234}\n",
        "3: mqtt.password: expected text, found something else (not shown)",
    ),
    (
        BASE + "frames: 3\n",
        "2: source: `frames` belongs to kind demo; `once` ends kind images after each image",
    ),
    (
        "model: model.zip\nsource: demo\nonce: true\n",
        "2: source: kind demo has no end of its own; write `frames: N` instead of `once`",
    ),
    (
        "model: model.zip\nsource: {kind: demo, uri: x}\n",
        "2: source: kind demo takes no `uri`; it draws its images itself",
    ),
    (RULE.replace("publish: t", ""), "3: rules.0.then: expected `publish: TOPIC` or `command: NAME`"),
    (
        RULE.replace("label: x", "label: x, matches: 3, of: 2"),
        "3: rules.0.when: matches: 3 of: 2 can never be reached",
    ),
    (
        RULE.replace("label: x", "label: [yes]"),
        "3: rules.0.when.label.0: expected text, "
        "found true or false (yes, no, on and off mean these in YAML; quotes make them text)",
    ),
    (BASE + "thing: 2026-01-01\n", "3: thing: expected text, found a date (quotes make it text)"),
    (
        BASE + "topic: 'a/{thin}'\n",
        "3: topic: expected a topic; its placeholders are {thing} and {pipeline}, found 'a/{thin}'",
    ),
    (
        BASE + "topic: $SYS/x\n",
        "3: topic: expected a topic of at most 256 bytes that does not start with $",
    ),
    (BASE + "limits: {frame_timeout: 0}\n", "3: limits.frame_timeout: expected a duration longer than 0"),
    (BASE + "isolation: chroot\n", "3: isolation: expected 'auto', 'container' or 'none', found 'chroot'"),
    ("model: model.zip\nsource: nowhere/*.png\n", "2: source: no folder, file or glob at nowhere/*.png"),
    (f"model: model.zip\nsource: {'x' * 5000}\n", f"2: source: no folder, file or glob at {'x' * 5000}"),
    (
        "model: {uri: model.zip, sha256: ABC}\nsource: images\n",
        "1: model.sha256: expected a sha256 digest, 64 lower-case hexadecimal digits, found 'ABC'",
    ),
    (
        "model: {uri: model.zip, sha: abc}\nsource: images\n",
        "1: model.sha: unknown key; did you mean 'sha256'?",
    ),
    ("model: {uri: model.zip, zzz: abc}\nsource: images\n", "1: model.zzz: unknown key"),
    (
        "models: {m: model.zip}\npipelines:\n  source:\n    source: images\n    limits: {memry: 1GB}\n",
        "5: pipelines.source.limits.memry: unknown key; did you mean 'memory'?",
    ),
]


@pytest.mark.parametrize(("text", "wrong"), SINGLE_ERRORS, ids=[wrong[:40] for _, wrong in SINGLE_ERRORS])
def test_single_errors(folder: Path, text: str, wrong: str) -> None:
    assert errors(folder, text) == [f"run.yaml:{wrong}"]


def test_an_almost_empty_file_says_what_is_needed(folder: Path) -> None:
    wrong = errors(folder, "thing: t\n")
    assert wrong == ["run.yaml: source: this key is missing", "run.yaml: model: this key is missing"]


def test_a_wrong_broker_is_told_with_its_line_and_without_its_password(folder: Path) -> None:
    (wrong,) = errors(folder, BASE + "broker: http://user:pa55@host\n")
    assert wrong.startswith("run.yaml:3: broker: 'http://user:***@host' is not a broker's address; expected mqtt://")
    assert "pa55" not in wrong


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("a: [1\n", 2, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("model: m\nmodel: n\n", 2, "the key `model` is given twice"),
        ("x:\n  a: 1\n  b: 2\n  a: 3\n", 4, "the key `a` is given twice"),
        ("a: &x 1\nb: *x\n", 2, "aliases"),
        ("a: 1\n<<: {b: 2}\n", 2, "the key `<<` is no text"),
        ("a: 1\nno: 2\n", 2, "the key `no` is no text to YAML"),
        ("models:\n  1: m.zip\n", 2, "write it in quotes: '1'"),
        ("a: !!python/object:os.system x\n", 1, "not valid YAML"),
        ("x: " + "[" * 30 + "]" * 30 + "\n", 1, "nested too deeply"),
        ("x: " + "[" * 100_000, 1, "nested too deeply"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("a: 1\nb: 1:30\n", 2, "1:30 is a number of base 60 to YAML"),
        ("a: 1\nb: 1:30.5\n", 2, "1:30.5 is a number of base 60 to YAML"),
        ("a: 0x" + "f" * 99 + "\n", 1, "a number of 101 characters"),
    ],
)  # fmt: skip
def test_yaml_that_cannot_be_read_names_its_line(folder: Path, text: str, line: int, told: str) -> None:
    text = refusal_of(folder, text)
    assert told in text
    assert f"run.yaml:{line}" in text


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just text\n", "\x00", "\ufeff"])
def test_a_file_without_settings_is_refused(folder: Path, text: str) -> None:
    assert "run.yaml" in refusal_of(folder, text)


def test_files_that_cannot_be_files_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="this is no file"):
        load_run_file(folder)
    with pytest.raises(UsageError, match="No such file"):
        load_run_file(folder / "gone.yaml")
    (folder / "latin.yaml").write_bytes("model: ü".encode("latin-1"))
    with pytest.raises(UsageError, match="UTF-8"):
        load_run_file(folder / "latin.yaml")
    (folder / "large.yaml").write_bytes(b"#" * (files.MAX_FILE_BYTES + 1))
    with pytest.raises(UsageError, match="too large"):
        load_run_file(folder / "large.yaml")


# --- secrets -------------------------------------------------------------------------------------------------


def test_a_secret_is_read_from_the_root_and_shown_nowhere(folder: Path) -> None:
    (folder / "state" / "secrets").mkdir(parents=True)
    (folder / "state" / "secrets" / "broker").write_text("hunter2\n")
    settings = load(folder, BASE + "root: state\nmqtt: {host: h, username: u, password: 'secret:broker'}\n")
    assert settings.device.mqtt is not None
    assert settings.device.mqtt.password == "hunter2"
    assert "hunter2" not in repr(settings)
    assert shown(settings)["mqtt"]["password"] == "secret:broker"
    assert "hunter2" not in json.dumps(shown(settings))


def test_a_password_in_the_file_is_not_shown(folder: Path) -> None:
    settings = load(folder, BASE + "broker: mqtt://u:hunter2@h\n")
    assert settings.device.mqtt is not None
    assert settings.device.mqtt.password == "hunter2"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in json.dumps(shown(settings))
    assert settings.expanded["mqtt"]["password"] == "hunter2"  # showing changed nothing


@pytest.mark.parametrize("name", ["", "../device.yaml", "/etc/passwd", ".hidden", "a/b", ".."])
def test_a_secret_is_a_plain_file_name(folder: Path, name: str) -> None:
    (wrong,) = errors(folder, BASE + f"root: state\nmqtt: {{host: h, password: 'secret:{name}'}}\n")
    assert "expected secret:NAME with a plain file name" in wrong


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "it is empty"), (b"\xff\xfe", "not UTF-8 text"), (b"x" * 70_000, "larger than 65,536 bytes")],
)
def test_a_secret_that_cannot_be_one_is_refused(folder: Path, content: bytes, told: str) -> None:
    (folder / "state" / "secrets").mkdir(parents=True)
    (folder / "state" / "secrets" / "broker").write_bytes(content)
    (wrong,) = errors(folder, BASE + "root: state\nmqtt: {host: h, password: 'secret:broker'}\n")
    assert told in wrong


# --- topics of several pipelines -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "two", "fine"),
    [("compact", "compact", False), ("compact", "full", True), ("full", "compact", True), ("full", "full", True)],
)
def test_two_compact_pipelines_need_two_topics(folder: Path, one: str, two: str, fine: bool) -> None:
    text = f"""\
models: {{m: model.zip}}
pipelines:
  a: {{source: images, payload: {one}}}
  b: {{source: images, payload: {two}}}
"""
    if fine:
        assert len(load(folder, text).deployment.pipelines) == 2
        return
    (wrong,) = errors(folder, text)
    assert "the pipelines a and b both publish compact payloads" in wrong
    assert "use {pipeline} in the topic" in wrong


# --- the expansion, and its JSON Schema ----------------------------------------------------------------------


@pytest.mark.parametrize("text", [SHORT, LONG, BASE, "model: model.zip\nsource: demo\n"])
def test_the_expansion_is_a_file_that_means_the_same(folder: Path, text: str) -> None:
    settings = load(folder, text)
    again = load(folder, yaml.safe_dump(shown(settings)))
    assert again.deployment == settings.deployment
    assert again.device == settings.device


@pytest.mark.parametrize("text", [SHORT, LONG, BASE, "models: {a: model.zip}\nsource: {kind: demo}\n"])
def test_the_json_schema_accepts_short_form_long_form_and_expansion(folder: Path, text: str) -> None:
    schema = run_file_json_schema()
    check(yaml.safe_load(text), schema)
    check(shown(load(folder, text)), schema)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "m"},
        {"source": "x", "sorce": 1},
        {"source": "x", "top": 0},
        {"source": "x", "top": "three"},
        {"source": {"kind": "camera"}},
        {"source": "x", "qos": 2},
        {"source": "x", "rules": [{"name": "r"}]},
        {"models": {"a b": "m"}, "pipelines": {"p": {"sourc": "x"}}},
        {"source": "x", "commands": {"c": {"argv": []}}},
    ],
)
def test_the_json_schema_refuses_what_the_file_may_not_say(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check(wrong, run_file_json_schema())


def test_the_json_schema_is_json() -> None:
    assert json.loads(json.dumps(run_file_json_schema()))["$schema"].startswith("https://json-schema.org/")
