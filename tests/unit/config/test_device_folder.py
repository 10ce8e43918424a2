"""A device's folder: device.yaml, the accelerator's config.json, and both."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.config.json_schema_check import check
from tests.unit.config.pem_texts import CERTIFICATE, OTHER_KEY, PRIVATE_KEY, PUBLIC_KEY, RAW_KEY

from mli.config.device import load_device, read_device
from mli.config.json_schemas import device_json_schema
from mli.config.settings import (
    AllowSettings,
    CommandSettings,
    HealthSettings,
    LogSettings,
    MqttSettings,
    SpoolSettings,
    StoreSettings,
    TlsSettings,
)
from mli.errors import RetryError, UsageError

ENDPOINT = "a1b2-ats.iot.us-east-1.amazonaws.com"


def accelerator(**core: Any) -> dict[str, Any]:
    """A config.json as the accelerator's users made it, with changes of ``coreThing``; None takes a key out."""
    thing = {
        "thingArn": "arn:aws:iot:us-east-1:123456789012:thing/gg_mli_accel_Core",
        "iotHost": ENDPOINT,
        "ggHost": "greengrass-ats.iot.us-east-1.amazonaws.com",
        "keepAlive": 600,
        **core,
    }
    return {
        "coreThing": {key: value for key, value in thing.items() if value is not None},
        "runtime": {"cgroup": {"useSystemd": "yes"}},
        "managedRespawn": False,
        "crypto": {
            "principals": {
                "SecretsManager": {"privateKeyPath": "file:///greengrass/certs/abc.private.key"},
                "IoTCertificate": {
                    "privateKeyPath": "file:///greengrass/certs/abc.private.key",
                    "certificatePath": "file:///greengrass/certs/abc.cert.pem",
                },
            },
            "caPath": "file:///greengrass/certs/root.ca.pem",
        },
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with certificates and no settings yet."""
    root = tmp_path / "device"
    for name, text in (
        ("certs/abc.cert.pem", CERTIFICATE),
        ("certs/abc.private.key", PRIVATE_KEY),
        ("certs/root.ca.pem", CERTIFICATE),
        ("secrets/password", "hush\n"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def write(root: Path, config: dict[str, Any] | str | None = None, device: str | None = None) -> Path:
    if config is not None:
        (root / "config").mkdir(exist_ok=True)
        (root / "config" / "config.json").write_text(
            config if isinstance(config, str) else json.dumps(config, indent=1)
        )
    if device is not None:
        (root / "device.yaml").write_text(device)
    return root


def refused(root: Path) -> str:
    with pytest.raises(UsageError) as refusal:
        load_device(root)
    assert refusal.value.exit_code == 2
    return str(refusal.value).replace(f"{root}", "ROOT")


def errors(root: Path) -> list[str]:
    """What is wrong, a line each."""
    first, *rest = refused(root).splitlines()
    assert first.endswith(f": {len(rest)} error{'s' if len(rest) > 1 else ''}"), first
    return [line.removeprefix("  ").replace("ROOT/", "") for line in rest]


# --- config.json alone ---------------------------------------------------------------------------------------


def test_the_accelerators_folder_is_a_device(root: Path) -> None:
    device = load_device(write(root, accelerator(iotMqttPort=443)))
    tls = TlsSettings(
        str(root / "certs" / "root.ca.pem"),
        str(root / "certs" / "abc.cert.pem"),
        str(root / "certs" / "abc.private.key"),
        "x-amzn-mqtt-ca",
    )
    thing = "gg_mli_accel_Core"
    assert device.mqtt == MqttSettings(ENDPOINT, 443, thing, tls, keepalive_s=600)
    assert (device.thing, device.root) == (thing, str(root))
    assert device.allow == AllowSettings((str(root / "images"),), ())
    assert (device.trust, device.min_isolation, device.commands) == ((), "none", {})


@pytest.mark.parametrize("port", [None, 8883])
def test_port_8883_needs_no_alpn(root: Path, port: int | None) -> None:
    mqtt = load_device(write(root, accelerator(iotMqttPort=port))).mqtt
    assert mqtt is not None
    assert mqtt.tls is not None
    assert (mqtt.port, mqtt.tls.alpn) == (8883, None)


def test_without_keep_alive_it_is_ours(root: Path) -> None:
    mqtt = load_device(write(root, accelerator(keepAlive=None))).mqtt
    assert mqtt is not None
    assert mqtt.keepalive_s == 60


def test_the_older_form_names_files_of_certs(root: Path) -> None:
    config = accelerator(caPath="root.ca.pem", certPath="abc.cert.pem", keyPath="abc.private.key")
    del config["crypto"]
    mqtt = load_device(write(root, config)).mqtt
    assert mqtt is not None
    assert mqtt.tls == TlsSettings(
        *(str(root / "certs" / name) for name in ("root.ca.pem", "abc.cert.pem", "abc.private.key"))
    )


def test_the_newer_form_wins_where_both_are_there(root: Path) -> None:
    mqtt = load_device(write(root, accelerator(caPath="gone.pem"))).mqtt
    assert mqtt is not None
    assert mqtt.tls is not None
    assert mqtt.tls.ca_path == str(root / "certs" / "root.ca.pem")


def test_paths_elsewhere_stay_where_they_are(root: Path, tmp_path: Path) -> None:
    (tmp_path / "my ca.pem").write_text(CERTIFICATE)
    config = accelerator()
    config["crypto"]["caPath"] = (tmp_path / "my ca.pem").as_uri()
    mqtt = load_device(write(root, config)).mqtt
    assert mqtt is not None
    assert mqtt.tls is not None
    assert mqtt.tls.ca_path == str(tmp_path / "my ca.pem")


def test_what_is_below_greengrass_is_used_where_it_is(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's own copy is for a folder that lies elsewhere."""
    old = tmp_path / "greengrass"
    monkeypatch.setattr("mli.config.accelerator._GREENGRASS", old)
    (old / "certs").mkdir(parents=True)
    (old / "certs" / "root.ca.pem").write_text(CERTIFICATE)
    config = json.loads(json.dumps(accelerator()).replace("file:///greengrass", f"file://{old}"))
    mqtt = load_device(write(root, config)).mqtt
    assert mqtt is not None
    assert mqtt.tls is not None
    assert mqtt.tls.ca_path == str(old / "certs" / "root.ca.pem")
    assert mqtt.tls.certificate_path == str(root / "certs" / "abc.cert.pem")


PROVIDER = "c1d2.credentials.iot.us-east-1.amazonaws.com"


def test_keys_for_buckets_come_by_the_role_alias_that_stands_beside_the_endpoint(root: Path) -> None:
    config = accelerator(iotRoleAlias="mli-device", iotCredEndpoint=PROVIDER, awsRegion="us-east-1")
    store = load_device(write(root, config)).store
    assert store == StoreSettings(role_alias="mli-device", credentials_endpoint=PROVIDER, region="us-east-1")
    write(root, config, "store: {role_alias: other, region: eu-west-1}\n")
    store = load_device(root).store
    assert (store.role_alias, store.credentials_endpoint, store.region) == ("other", PROVIDER, "eu-west-1")


def test_a_broker_of_ones_own_leaves_the_certificates_role_behind(root: Path) -> None:
    config = accelerator(iotRoleAlias="mli-device", iotCredEndpoint=PROVIDER, awsRegion="us-east-1")
    device = load_device(write(root, config, "broker: mqtt://broker.example\n"))
    assert device.store == StoreSettings(region="us-east-1")


@pytest.mark.parametrize(
    ("core", "told"),
    [
        ({"iotRoleAlias": "mli-device"}, "coreThing.iotRoleAlias: `role_alias` comes with `credentials_endpoint`"),
        ({"iotCredEndpoint": PROVIDER}, "coreThing.iotCredEndpoint: `credentials_endpoint` comes with `role_alias`"),
        ({"iotRoleAlias": "a role", "iotCredEndpoint": PROVIDER}, "coreThing.iotRoleAlias: expected"),
        ({"iotRoleAlias": "mli-device", "iotCredEndpoint": ""}, "coreThing.iotCredEndpoint: expected an address"),
        ({"iotRoleAlias": 3, "iotCredEndpoint": PROVIDER}, "coreThing.iotRoleAlias: expected"),
        ({"awsRegion": "Ireland!"}, "coreThing.awsRegion: expected"),
    ],
)
def test_a_wrong_role_alias_endpoint_or_region_is_told_where_it_stands(
    root: Path, core: dict[str, Any], told: str
) -> None:
    (error,) = errors(write(root, accelerator(**core)))
    assert error.startswith(f"config/config.json: {told}")


def test_a_byte_order_mark_is_no_error(root: Path) -> None:
    assert load_device(write(root, "\ufeff" + json.dumps(accelerator()))).thing == "gg_mli_accel_Core"


def test_all_errors_of_a_config_json_come_at_once(root: Path) -> None:
    config = accelerator(thingArn="[THING_ARN_HERE]", iotHost="[HOST_PREFIX].iot.x", iotMqttPort="443", keepAlive=1)
    config["crypto"]["principals"]["IoTCertificate"] = {"privateKeyPath": "pkcs11:token=x", "certificatePath": 3}
    del config["crypto"]["caPath"]
    write(root, config)
    name = "config/config.json"
    assert errors(root) == [
        f"{name}: coreThing.thingArn: expected arn:aws:iot:REGION:ACCOUNT:thing/NAME, found '[THING_ARN_HERE]'",
        f"{name}: coreThing.iotHost: expected the endpoint, PREFIX-ats.iot.REGION.amazonaws.com, "
        "found '[HOST_PREFIX].iot.x'",
        f"{name}: coreThing.iotMqttPort: expected a port, such as 443 or 8883, found '443'",
        f"{name}: crypto.caPath: expected a file:// URI of a PEM file, found nothing",
        f"{name}: crypto.principals.IoTCertificate.certificatePath: expected a file:// URI of a PEM file, found 3",
        f"{name}: crypto.principals.IoTCertificate.privateKeyPath: keys in a hardware module (pkcs11:) cannot be "
        "used; expected a file:// URI of a PEM file",
        f"{name}: coreThing.keepAlive: expected 5s to 65535s, which MQTT can say, found 1s",
    ]


def test_certificates_that_are_missing_or_mixed_up_are_told(root: Path) -> None:
    (root / "certs" / "root.ca.pem").unlink()
    (root / "certs" / "abc.cert.pem").write_text(PRIVATE_KEY)
    (root / "certs" / "abc.private.key").write_text("nonsense")
    write(root, accelerator())
    name, principal = "config/config.json", "crypto.principals.IoTCertificate"
    assert errors(root) == [
        f"{name}: crypto.caPath: certs/root.ca.pem: no such file; unzip greengrass-setup.zip in ROOT once more, or "
        "correct the path",
        f"{name}: {principal}.certificatePath: certs/abc.cert.pem: expected a certificate, found rsa private key",
        f"{name}: {principal}.privateKeyPath: certs/abc.private.key: this is no PEM file",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{\n"coreThing": {\n', "config.json:3"),
        ("", "config.json:1"),
        ("[]", "this is no config.json of Greengrass V1"),
        ('{"coreThing": []}', "this is no config.json of Greengrass V1"),
        ('{"system": {}}', "this is no config.json of Greengrass V1"),
        ("[" * 100_000, "the file is not valid JSON"),
        ("9" * 5000, "the file is not valid JSON"),
        ("x" * (1024 * 1024 + 1), "config.json"),
    ],
)
def test_a_config_json_that_is_none_is_refused(root: Path, text: str, told: str) -> None:
    assert told in refused(write(root, text))


@pytest.mark.parametrize("value", [None, -3, "x", [], {}, True, {"a": {}}, "file://", 10**30])
@pytest.mark.parametrize(
    "place",
    [
        ("coreThing", "thingArn"),
        ("coreThing", "iotHost"),
        ("coreThing", "iotMqttPort"),
        ("crypto",),
        ("crypto", "caPath"),
        ("crypto", "principals"),
        ("crypto", "principals", "IoTCertificate"),
        ("crypto", "principals", "IoTCertificate", "privateKeyPath"),
    ],
)
def test_any_wrong_value_anywhere_is_an_error_with_its_place(root: Path, place: tuple[str, ...], value: Any) -> None:
    config = accelerator()
    section = config
    for part in place[:-1]:
        section = section[part]
    section[place[-1]] = value
    write(root, config)
    if place[-1] == "iotHost" and value == "x":
        assert load_device(root).mqtt is not None  # a host of one's own
        return
    assert all(line.startswith(f"config/config.json: {place[0]}.") for line in errors(root))


# --- device.yaml alone ---------------------------------------------------------------------------------------

DEVICE = f"""\
thing: line-7
mqtt:
  host: broker
  tls: {{ca: certs/root.ca.pem, certificate: certs/abc.cert.pem, private_key: certs/abc.private.key}}
  username: u
  password: secret:password
store:
  endpoint: https://s3.example.org
  region: eu-west-1
  credentials: keys
  access_key_id: secret:password
  secret_access_key: secret:password
  ca: certs/root.ca.pem
  proxy: http://u:p@proxy:3128
  connect_timeout: 1s
  stall_timeout: 2s
  max_size: 1GB
allow: {{paths: [images, /srv/camera], hosts: [Models.example.org, "*.cdn.example.org"]}}
trust:
  - deploy.pub
  - |
    {PUBLIC_KEY.replace(chr(10), chr(10) + "    ").strip()}
commands: {{divert: {{argv: [/bin/divert]}}}}
min_isolation: container
health: {{healthy_after: 1s, watch: 2m, deadline: 3h}}
spool: {{max_size: 1MB}}
log: {{level: debug, format: json, max_size: 1MB, kept: 9}}
"""


def test_every_key_of_a_device_reaches_its_setting(root: Path) -> None:
    (root / "deploy.pub").write_text(OTHER_KEY)
    device = load_device(write(root, device=DEVICE))
    assert device.mqtt is not None
    assert (device.mqtt.port, device.mqtt.client_id, device.mqtt.password) == (8883, "line-7", "hush")
    assert device.store == StoreSettings(
        endpoint="https://s3.example.org",
        region="eu-west-1",
        credentials="keys",
        access_key_id="hush",
        secret_access_key="hush",
        ca_path=str(root / "certs" / "root.ca.pem"),
        proxy="http://u:p@proxy:3128",
        connect_timeout_s=1.0,
        stall_timeout_s=2.0,
        max_bytes=1024**3,
    )
    assert device.allow == AllowSettings(
        (str(root / "images"), "/srv/camera"), ("models.example.org", "*.cdn.example.org")
    )
    assert [anchor.public_key for anchor in device.trust] == [bytes(range(32)).hex(), RAW_KEY.hex()]
    assert device.commands == {"divert": CommandSettings(("/bin/divert",))}
    assert device.min_isolation == "container"
    assert device.health == HealthSettings(1.0, 120.0, 10_800.0)
    assert device.spool == SpoolSettings(1024**2)
    assert device.log == LogSettings("debug", "json", 1024**2, 9)


def test_a_device_shows_no_secret_and_fits_the_json_schema(root: Path) -> None:
    (root / "deploy.pub").write_text(OTHER_KEY)
    folder = read_device(
        write(root, device=DEVICE.replace("secret_access_key: secret:password", "secret_access_key: hush"))
    )
    shown = folder.shown()
    assert "hush" not in json.dumps(shown)
    assert "u:p@" not in json.dumps(shown)
    assert "hush" not in repr(folder.settings)
    check(shown, device_json_schema())


def test_almost_nothing_is_enough(root: Path) -> None:
    device = load_device(write(root, device="thing: t\n"))
    assert (device.thing, device.mqtt, device.root) == ("t", None, str(root))


def test_a_broker_may_be_an_address(root: Path) -> None:
    device = load_device(write(root, device="thing: t\nbroker: mqtt://host:99\n"))
    assert device.mqtt == MqttSettings("host", 99, "t")


def test_a_single_key_to_trust_needs_no_list(root: Path) -> None:
    (root / "deploy.pub").write_text(PUBLIC_KEY)
    assert len(load_device(write(root, device="thing: t\ntrust: deploy.pub\n")).trust) == 1


def test_the_same_key_twice_is_one(root: Path) -> None:
    (root / "deploy.pub").write_text(PUBLIC_KEY)
    assert len(load_device(write(root, device="thing: t\ntrust: [deploy.pub, ./deploy.pub]\n")).trust) == 1


def test_all_errors_of_a_device_file_come_at_once(root: Path) -> None:
    (root / "key.pub").write_text(CERTIFICATE)
    write(
        root,
        device="""\
mqtt: {hots: h, keepalive: 1s}
allow: {hosts: [https://x], path: [a]}
min_isolation: auto
model: model.zip
pipelines: {}
log: debug
log_level: debug
store: {endpoint: s3.example.org, credentials: none, secret_access_key: [hush]}
health: {deadline: 0}
""",
    )
    name = "device.yaml"
    assert errors(root) == [
        f"{name}: thing: this key is missing",
        f"{name}:1: mqtt.host: this key is missing",
        f"{name}:1: mqtt.keepalive: expected 5s to 65535s, which MQTT can say, found 1s",
        f"{name}:1: mqtt.hots: unknown key; did you mean 'host'?",
        f"{name}:2: allow.hosts.0: expected a host such as models.example.org, or *.example.org, found 'https://x'",
        f"{name}:2: allow.path: unknown key; did you mean 'paths'?",
        f"{name}:3: min_isolation: expected 'none' or 'container', found 'auto'",
        f"{name}:4: model: this key belongs to a deployment, which is a file of its own",
        f"{name}:5: pipelines: this key belongs to a deployment, which is a file of its own",
        f"{name}:6: log: expected a section of keys, found 'debug'",
        f"{name}:7: log_level: unknown key",
        f"{name}:8: store.endpoint: expected https://HOST[:PORT] of an S3-compatible store, found 's3.example.org'",
        f"{name}:8: store.credentials: expected 'auto', 'keys', 'environment', 'profile', 'container', 'iot' or "
        "'anonymous', found 'none'",
        f"{name}:8: store.secret_access_key: expected text, found something else (not shown)",
        f"{name}:9: health.deadline: expected a duration longer than 0",
    ]


def test_errors_between_the_parts_of_a_device_come_all_at_once(root: Path) -> None:
    (root / "key.pub").write_text(CERTIFICATE)
    write(
        root,
        device="""\
thing: t
root: elsewhere
store:
  access_key_id: secret:nowhere
  role_alias: camera
  proxy: ftp://u:hush@h
  ca: gone.pem
trust:
  - key.pub
  - gone.pub
""",
    )
    lines = errors(root)
    name = "device.yaml"
    assert [line.split(": ")[:2] for line in lines] == [
        [f"{name}:2", "root"],
        [f"{name}:3", "store"],
        [f"{name}:3", "store"],
        [f"{name}:4", "store.access_key_id"],
        [f"{name}:5", "store.role_alias"],
        [f"{name}:6", "store.proxy"],
        [f"{name}:7", "store.ca"],
        [f"{name}:9", "trust.0"],
        [f"{name}:10", "trust.1"],
    ]
    told = "\n".join(lines)
    assert "this folder is the device's root, not elsewhere" in told
    assert "`access_key_id` comes with `secret_access_key`" in told
    assert "`role_alias` comes with `credentials_endpoint`" in told
    assert "the AWS IoT credentials provider wants the device's certificate" in told
    assert "found PEM of certificate; make one with `openssl" in told
    assert "hush" not in told


@pytest.mark.parametrize(
    ("credentials", "missing"),
    [
        ("keys", "`access_key_id` and `secret_access_key`"),
        ("iot", "`role_alias` and `credentials_endpoint`"),
        ("profile", "`profile`"),
    ],
)
def test_credentials_need_their_keys(root: Path, credentials: str, missing: str) -> None:
    lines = errors(write(root, device=f"thing: t\nstore: {{credentials: {credentials}}}\n"))
    assert f"device.yaml:2: store: `credentials: {credentials}` needs {missing}" in lines


def test_iot_credentials_take_the_devices_certificate(root: Path) -> None:
    device = "store: {role_alias: camera, credentials_endpoint: c1.credentials.iot.us-east-1.amazonaws.com}\n"
    store = load_device(write(root, accelerator(), device)).store
    assert (store.role_alias, store.credentials) == ("camera", "auto")


# --- both ----------------------------------------------------------------------------------------------------


def merged(root: Path, device: str, **core: Any) -> MqttSettings | None:
    return load_device(write(root, accelerator(**core), device)).mqtt


def test_device_yaml_replaces_key_by_key(root: Path) -> None:
    (root / "ca.pem").write_text(CERTIFICATE)
    mqtt = merged(root, "mqtt: {keepalive: 90, tls: {ca: ca.pem}}\nlog: {level: debug}\n")
    assert mqtt is not None
    assert mqtt.tls is not None
    assert (mqtt.host, mqtt.keepalive_s) == (ENDPOINT, 90)
    assert (mqtt.tls.ca_path, mqtt.tls.certificate_path) == (
        str(root / "ca.pem"),
        str(root / "certs" / "abc.cert.pem"),
    )


def test_device_yaml_may_rename_the_thing(root: Path) -> None:
    device = load_device(write(root, accelerator(), "thing: other\n"))
    assert device.mqtt is not None
    assert (device.thing, device.mqtt.client_id) == ("other", "other")


@pytest.mark.parametrize(
    ("device", "alpn"),
    [
        ("thing: t\n", "x-amzn-mqtt-ca"),
        ("mqtt: {port: 8883}\n", None),
        ("mqtt: {host: mosquitto}\n", None),
        ("mqtt: {tls: {alpn: mine}}\n", "mine"),
        ("mqtt: {tls: {alpn: null}}\n", None),
    ],
)
def test_the_protocols_name_belongs_to_amazons_host_and_port(root: Path, device: str, alpn: str | None) -> None:
    mqtt = merged(root, device, iotMqttPort=443)
    assert mqtt is not None
    assert mqtt.tls is not None
    assert mqtt.tls.alpn == alpn


def test_port_443_of_device_yaml_names_the_protocol_too(root: Path) -> None:
    mqtt = merged(root, "mqtt: {port: 443}\n", iotMqttPort=None)
    assert mqtt is not None
    assert mqtt.tls is not None
    assert mqtt.tls.alpn == "x-amzn-mqtt-ca"


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("broker: mqtt://localhost\n", MqttSettings("localhost", 1883, "gg_mli_accel_Core")),
        ("mqtt: null\n", None),
    ],
)
def test_another_broker_altogether_replaces_all(root: Path, device: str, expected: MqttSettings | None) -> None:
    assert merged(root, device) == expected


def test_what_device_yaml_replaces_need_not_be_right(root: Path) -> None:
    config = accelerator(thingArn="x", iotHost=3)
    del config["crypto"]
    device = load_device(write(root, config, "thing: t\nbroker: mqtt://localhost\n"))
    assert (device.thing, device.mqtt) == ("t", MqttSettings("localhost", 1883, "t"))


def test_errors_of_both_files_come_together(root: Path) -> None:
    write(root, accelerator(iotHost=None), "log: {levl: debug}\n")
    assert refused(root).startswith("ROOT: 2 errors")
    assert [line.split(": ")[0] for line in errors(root)] == ["config/config.json", "device.yaml:1"]


def test_two_files_that_cannot_be_read_are_both_told(root: Path) -> None:
    told = refused(write(root, "{", "thing: [\n"))
    assert "ROOT/config/config.json:1" in told
    assert "ROOT/device.yaml:2" in told


def test_an_error_stands_where_its_value_does(root: Path) -> None:
    write(root, accelerator(), "mqtt: {tls: {ca: gone.pem}}\n")
    assert errors(root) == ["device.yaml:1: mqtt.tls.ca: gone.pem: no such file (gone.pem)"]


# --- no device -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_without_a_device_says_what_to_do(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "empty").mkdir()
    told = refused(tmp_path / "empty")
    assert "device.yaml, or config/config.json and certs/" in told
    assert "`mli device bundle`" in told
    assert "unzip it here" in told


@pytest.mark.parametrize("name", ["device.yml", "device.json"])
def test_a_file_of_a_similar_name_is_not_passed_over(root: Path, name: str) -> None:
    write(root, accelerator())
    (root / name).write_text("thing: t\n")
    assert f"{name} is not read" in refused(root)


def test_a_relative_root_becomes_absolute(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, device="thing: t\nroot: .\n")
    monkeypatch.chdir(root.parent)
    assert load_device(Path(root.name)).root == str(root)


@pytest.mark.parametrize("failing", ["device.yaml", "config.json", "abc.cert.pem", "password"])
def test_a_disk_that_fails_for_a_moment_is_no_wrong_file(
    root: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """A service is started again after a failure; after a wrong file it waits for a person."""
    load_device(write(root, accelerator(), "mqtt: {username: me, password: 'secret:password'}"))
    opened = Path.open

    def fails(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.name == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return opened(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(RetryError) as caught:
        load_device(root)
    assert caught.value.where is not None
    assert caught.value.where.endswith(failing)
    assert caught.value.exit_code == 1
