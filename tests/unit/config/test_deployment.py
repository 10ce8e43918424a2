"""Deployments: what they stand for, what a device takes from the network, and what from a file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.unit.config.deployments import BASE, SHA, errors, parse
from tests.unit.config.pem_texts import CERTIFICATE, OTHER_KEY, PRIVATE_KEY, PUBLIC_KEY, RAW_KEY

from mli.config.deployment import Origin, read_deployment
from mli.config.settings import AllowSettings, ModelSource, StoreSettings
from mli.errors import UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A device's folder with images and an archive that may be read, and others that may not."""
    root = tmp_path / "device"
    for name in ("images/left/a.png", "archives/m.zip", "private/m.zip", "private/a.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


# --- what a deployment stands for ----------------------------------------------------------------------------


def test_the_smallest_one_is_an_address_and_a_source(root: Path) -> None:
    deployment = parse(root, BASE)
    assert deployment.models == {"main": ModelSource("s3://bucket/m.zip")}
    (pipeline,) = deployment.pipelines
    assert (pipeline.thing, pipeline.model, pipeline.source.uri) == ("line-7", "main", str(root / "images"))
    assert pipeline.publish.topic == "mli/predictions/line-7"
    assert (deployment.revision, deployment.trust) == (7, None)
    assert re.fullmatch("[0-9a-f]{64}", deployment.identity)


def test_every_key_of_a_model_and_of_the_deployment_reaches_its_setting(root: Path) -> None:
    deployment = parse(
        root,
        f"""\
revision: 8
thing: line-7
trust: [{json.dumps(PUBLIC_KEY)}, {json.dumps(OTHER_KEY)}, {json.dumps(PUBLIC_KEY.replace(chr(10), " "))}]
models:
  a: {{uri: "s3://bucket/m.zip", sha256: {SHA}, region: eu-west-1}}
  b: https://models.example.org/m.zip?X-Amz-Signature=1
  c: file://{root}/archives/m.zip
  d: archives/m.zip
pipelines:
  one: {{model: a, source: images/left, isolation: container}}
  two: {{model: b, source: {{kind: demo}}, topic: "x/{{pipeline}}"}}
""",
    )
    assert deployment.models == {
        "a": ModelSource("s3://bucket/m.zip", SHA, "eu-west-1"),
        "b": ModelSource("https://models.example.org/m.zip?X-Amz-Signature=1"),
        "c": ModelSource(str(root / "archives" / "m.zip")),
        "d": ModelSource(str(root / "archives" / "m.zip")),
    }
    assert [pipeline.isolation for pipeline in deployment.pipelines] == ["container", "auto"]
    assert deployment.trust is not None
    assert [anchor.public_key for anchor in deployment.trust] == [RAW_KEY.hex(), bytes(range(32)).hex()]


def test_a_single_key_to_trust_needs_no_list(root: Path) -> None:
    deployment = parse(root, f"{BASE}trust: {json.dumps(PUBLIC_KEY)}\n")
    assert deployment.trust is not None
    assert len(deployment.trust) == 1


@pytest.mark.parametrize("key", ["certs/deploy.pub", PRIVATE_KEY, CERTIFICATE])
def test_what_is_no_public_key_is_refused_and_not_repeated(root: Path, key: str) -> None:
    (line,) = errors(root, f"{BASE}trust: {json.dumps(key)}\n")
    assert line.startswith("d:4: trust.0: expected ")
    assert "openssl genpkey -algorithm ed25519" in line
    assert "MDAw" not in line


def test_an_empty_list_of_keys_is_refused(root: Path) -> None:
    """It would open the device to everyone."""
    assert errors(root, f"{BASE}trust: []\n") == ["d:4: trust: expected at least one entry, found an empty list"]


# --- what never comes over the network -----------------------------------------------------------------------

DEVICE_KEYS = (
    "root: /x\nmqtt: {host: h}\nbroker: mqtt://h\nspool: {max_size: 1MB}\ncommands: {x: {argv: [/bin/sh]}}\n"
    "store: {endpoint: https://h}\nallow: {paths: [/]}\nhealth: {watch: 1s}\nlog: {level: debug}\n"
    "min_isolation: none\n"
)


@pytest.mark.parametrize("origin", ["remote", "file"])
def test_the_devices_own_keys_are_refused_with_the_reason(root: Path, origin: Origin) -> None:
    lines = errors(root, BASE + DEVICE_KEYS, origin=origin)
    keys = [line.partition(":")[0] for line in DEVICE_KEYS.splitlines()]
    assert [line.split(": ")[1] for line in lines] == keys
    assert all("stands in its device.yaml, and never comes over the network" in line for line in lines)


def test_a_thing_is_the_devices_own(root: Path) -> None:
    assert parse(root, BASE + "thing: line-7\n").identity == parse(root, BASE).identity
    assert errors(root, BASE + "thing: line-8\n") == [
        "d:4: thing: this deployment is for line-8, and this device is line-7"
    ]


def test_the_network_needs_a_revision_and_a_file_does_not(root: Path) -> None:
    text = "model: s3://bucket/m.zip\nsource: images\n"
    (line,) = errors(root, text)
    assert line == "d: revision: this key is missing; a deployment that comes over the network needs it"
    assert parse(root, text, origin="file").revision is None


@pytest.mark.parametrize("revision", ["-1", "x", "1.5", "10000000000000000", "[]"])
def test_revisions_are_whole_numbers_that_every_reader_can_hold(root: Path, revision: str) -> None:
    (line,) = errors(root, BASE.replace("7", revision))
    assert line.startswith("d:1: revision: expected ")


# --- files and hosts -----------------------------------------------------------------------------------------


def source(root: Path, uri: str, **options: Any) -> str:
    text = f"revision: 1\nmodel: s3://bucket/m.zip\nsource: {json.dumps(uri)}\n"
    return parse(root, text, **options).pipelines[0].source.uri


@pytest.mark.parametrize(
    "uri", ["images", "images/left", "images/../images/left", "images/*.png", "images/**/[ab].png"]
)
def test_images_below_the_allowed_folders_are_read(root: Path, uri: str) -> None:
    assert source(root, uri) == str(root / uri)
    assert source(root, f"{root}/{uri}") == f"{root}/{uri}"


@pytest.mark.parametrize(
    "uri",
    [
        "/etc",
        "private",
        ".",
        "images/../private",
        "images/left/../../private/*.png",
        "images/*/../../private",
        "images/*/../left",
        "imagesX",
        "*",
        "**/*.png",
        "link-out",
        "images/link-out",
        "images/link-out/a.png",
        "images/link-out/*.png",
        "images/circle/x",
        "images/[link]",
        "~/x",
    ],
)
def test_images_elsewhere_are_refused_from_the_network_only(
    root: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(root))
    (root / "link-out").symlink_to(root / "private")
    (root / "images" / "link-out").symlink_to("../private")
    (root / "images" / "[link]").symlink_to("../private")
    (root / "images" / "circle").symlink_to("circle")
    with pytest.raises(UsageError) as refusal:
        source(root, uri)
    assert f"{uri} lies outside of the folders that a deployment from the network may read" in str(refusal.value)
    assert "`allow.paths`" in str(refusal.value)
    with pytest.raises(UsageError):
        source(root, uri, check_files=False)
    source(root, uri, origin="file", check_files=False)


def test_an_allowed_folder_may_be_a_link(root: Path) -> None:
    (root / "camera").symlink_to(root / "private")
    assert source(root, "camera/*.png", allow=AllowSettings((str(root / "camera"),)))
    assert source(root, "private", allow=AllowSettings((str(root / "camera"),)))


def test_what_is_read_is_bounded_for_the_network_only(root: Path) -> None:
    (root / "camera").symlink_to(root / "private")
    allow = AllowSettings((str(root / "camera"), str(root / "images")))
    remote, local = (
        parse(root, BASE, allow=allow, origin=origin).pipelines[0].source for origin in ("remote", "file")
    )
    assert remote.below == (str(root / "camera"), str(root / "private"), str(root / "images"))
    assert local.below is None


def test_without_allowed_folders_nothing_is_read(root: Path) -> None:
    with pytest.raises(UsageError, match=r"may read \(none\)"):
        source(root, "images", allow=AllowSettings())


def test_nothing_is_told_of_files_that_may_not_be_read(root: Path) -> None:
    there, gone = (errors(root, BASE.replace("images", f"/{name}"))[0] for name in ("etc", "gone"))
    assert there.replace("/etc", "/gone") == gone


@pytest.mark.parametrize(
    "uri",
    [
        "private/m.zip",
        "file://ROOT/private/m.zip",
        "images/../private/m.zip",
        "file://ROOT/archives/%2e%2e/private/m.zip",
    ],
)
def test_archives_elsewhere_are_refused_from_the_network_only(root: Path, uri: str) -> None:
    text = f"revision: 1\nmodel: {uri.replace('ROOT', str(root))}\nsource: images\n"
    (line,) = errors(root, text)
    assert line.startswith(f"d:2: model: {uri} lies outside of the folders")
    assert parse(root, text, origin="file").models["main"].uri.endswith("private/m.zip")


def test_an_archive_that_is_missing_is_told_unless_nobody_needs_it(root: Path) -> None:
    text = "revision: 1\nmodel: archives/gone.zip\nsource: images/gone/*.png\n"
    assert errors(root, text) == [
        "d:2: model: archives/gone.zip: no such file (ROOT/archives/gone.zip)",
        "d:3: source: no folder, file or glob at images/gone/*.png",
    ]
    assert parse(root, text, check_files=False).models["main"].uri == str(root / "archives" / "gone.zip")


def test_paths_of_a_file_are_of_its_folder_and_those_of_the_network_of_the_root(root: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "images").mkdir(parents=True)
    assert source(root, "images", origin="file", folder=site) == str(site / "images")
    assert source(root, "images", folder=site) == str(root / "images")


@pytest.mark.parametrize(
    "uri",
    [
        "https://models.example.org/m.zip",
        "https://MODELS.example.org:8443/m.zip",
        "https://a.b.cdn.example.org/m.zip",
        "https://s3.example.org/bucket/m.zip",
        "s3://any-bucket/m.zip",
    ],
)
def test_hosts_that_the_device_allows(root: Path, uri: str) -> None:
    assert parse(root, f"revision: 1\nmodel: {uri}\nsource: images\n").models["main"].uri == uri


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "cdn.example.org",
        "xcdn.example.org",
        "models.example.org.evil.net",
        "169.254.169.254",
        "[::1]",
        "localhost",
    ],
)
def test_other_hosts_are_refused_from_the_network_only(root: Path, host: str) -> None:
    text = f"revision: 1\nmodel: 'https://{host}/m.zip?sig=hush'\nsource: images\n"
    (line,) = errors(root, text)
    assert line == (
        f"d:2: model: the device takes no archives from {host.strip('[]')!r} (hosts: models.example.org, "
        "*.cdn.example.org); its `allow.hosts` names the hosts"
    )
    assert parse(root, text, origin="file").models["main"].uri.startswith("https://")


def test_plain_http_is_refused_from_everywhere(root: Path) -> None:
    text = "revision: 1\nmodel: http://models.example.org/m.zip?sig=hush\nsource: images\n"
    for origin in ("remote", "file"):
        (line,) = errors(root, text, origin=origin)
        assert line.startswith("d:2: model: http:// is not taken: whoever is on the way could read the archive")
        assert "hush" not in line


def test_a_region_belongs_to_a_bucket(root: Path) -> None:
    text = "revision: 1\nmodel: {uri: archives/m.zip, region: eu-west-1}\nsource: images\n"
    assert errors(root, text) == ["d:2: model: `region` belongs to an s3:// address"]


def test_the_line_of_an_error_is_known_in_json_too(root: Path) -> None:
    value = {"revision": 1, "model": "s3://bucket/m.zip", "source": "images", "top": 0}
    for indent in (1, "\t"):
        assert errors(root, json.dumps(value, indent=indent)) == ["d:5: top: expected at least 1, found 0"]


def test_a_key_given_twice_is_refused_in_json_too(root: Path) -> None:
    with pytest.raises(UsageError, match="the key `top` is given twice"):
        parse(root, '{"revision": 1, "model": "s3://bucket/x", "source": "images", "top": 1, "top": 2}')


def test_json_means_what_json_means(root: Path) -> None:
    """Where PyYAML reads it differently: 1e-1 is no number to it, and a pair of escapes no letter."""
    text = '{"revision": 1, "model": "s3://bucket/\\ud83d\\ude00", "source": "images", "min_confidence": 1e-1}'
    deployment = parse(root, text)
    assert deployment.models["main"].uri == "s3://bucket/\U0001f600"
    assert deployment.pipelines[0].min_confidence == 0.1


# --- commands, topics, isolation -----------------------------------------------------------------------------

RULE = BASE + "rules: [{name: r, when: {label: x}, then: {THEN}}]\n"


@pytest.mark.parametrize("origin", ["remote", "file"])
def test_only_the_devices_own_commands_run(root: Path, origin: Origin) -> None:
    assert (
        parse(root, RULE.replace("THEN", "command: divert"), origin=origin).pipelines[0].rules[0].command == "divert"
    )
    (line,) = errors(root, RULE.replace("THEN", "command: divrt"), origin=origin)
    assert line == (
        "d:4: rules.0.then.command: the device allows no command 'divrt' (commands: divert); did you mean 'divert'?"
    )


@pytest.mark.parametrize(
    "topic",
    [
        "mli/deployments/line-8",
        "mli/deployments",
        "mli/status/line-7",
        "mli/status/{thing}/deployment",
        "mli/{pipeline}/x",
    ],
)
@pytest.mark.parametrize("origin", ["remote", "file"])
def test_no_prediction_goes_where_devices_are_run(root: Path, topic: str, origin: Origin) -> None:
    long = f"""\
revision: 1
models: {{m: s3://bucket/m.zip}}
pipelines:
  status:
    source: images
    topic: "{topic}"
    rules: [{{name: r, when: {{label: x}}, then: {{publish: "{topic}"}}}}]
"""
    lines = errors(root, long, origin=origin)
    assert [line.split(": ")[:2] for line in lines] == [
        ["d:6", "pipelines.status.topic"],
        ["d:7", "pipelines.status.rules.0.then.publish"],
    ]
    assert all("one of the topics by which devices are run" in line for line in lines)


def test_topics_that_only_look_alike_are_fine(root: Path) -> None:
    assert parse(root, BASE + "topic: mli/statusx/{thing}\n").pipelines[0].publish.topic == "mli/statusx/line-7"


@pytest.mark.parametrize("origin", ["remote", "file"])
def test_the_devices_least_isolation_holds(root: Path, origin: Origin) -> None:
    def isolation(wanted: str, least: str) -> str:
        return parse(root, f"{BASE}isolation: {wanted}\n", origin=origin, min_isolation=least).pipelines[0].isolation

    assert [isolation(wanted, "none") for wanted in ("auto", "container", "none")] == ["auto", "container", "none"]
    assert [isolation(wanted, "container") for wanted in ("auto", "container")] == ["container", "container"]
    (line,) = errors(root, BASE + "isolation: none\n", origin=origin, min_isolation="container")
    assert line == "d:4: isolation: the device runs nothing without a container (its `min_isolation`); expected auto"


def test_everything_that_a_device_does_not_allow_is_told_at_once(root: Path) -> None:
    text = """\
thing: other
models: {a: "https://evil.example/m.zip", b: /etc/passwd}
pipelines:
  one: {model: c, source: /etc, isolation: none}
  two: {model: a, source: images, rules: [{name: r, when: {label: x}, then: {command: rm}}]}
"""
    lines = errors(root, text, min_isolation="container")
    assert [line.split(": ")[:2] for line in lines] == [
        ["d", "revision"],
        ["d:1", "thing"],
        ["d:2", "models.a"],
        ["d:2", "models.b"],
        ["d:4", "pipelines.one.model"],
        ["d:4", "pipelines.one.source"],
        ["d:4", "pipelines.one.isolation"],
        ["d:5", "pipelines.two.rules.0.then.command"],
        ["d:5", "pipelines.two.publish.topic"],
    ]


def test_what_comes_over_an_open_line_needs_its_digest(root: Path) -> None:
    text = "revision: 1\nmodel: s3://bucket/m.zip\nsource: images\n"
    store = StoreSettings(endpoint="http://10.0.0.1:9000")
    (line,) = errors(root, text, store=store)
    assert "sha256: this key is missing; the device's store is http://" in line
    model = f"model: {{uri: s3://bucket/m.zip, sha256: {SHA}}}"
    parsed = parse(root, text.replace("model: s3://bucket/m.zip", model), store=store)
    assert parsed.models["main"].sha256 == SHA


# --- the sender's view ---------------------------------------------------------------------------------------


def test_a_sender_learns_what_a_deployment_says_without_its_device() -> None:
    form = read_deployment((BASE + "thing: any\nisolation: none\n").encode(), "d")
    assert (form.revision, form.thing) == (7, "any")
    assert form.expanded["pipelines"]["main"]["limits"]["memory"] == 500 * 1024**2
    with pytest.raises(UsageError, match="d:4: sorce: unknown key; did you mean 'source'"):
        read_deployment((BASE + "sorce: x\n").encode(), "d")


def test_a_presigned_address_is_shown_without_its_query() -> None:
    text = "model: https://h/m.zip?X-Amz-Signature=hush\nsource: images\n"
    form = read_deployment(text.encode(), "d")
    assert form.shown()["models"]["main"]["uri"] == "https://h/m.zip?***"
    assert form.expanded["models"]["main"]["uri"].endswith("hush")
    assert "hush" not in repr(form)
