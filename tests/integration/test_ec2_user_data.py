"""The user data of the EC2 core, run for real in a clean root: what it checks, installs, and tells the stack."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.ec2_machine import (
    ACCESS_KEY,
    INSTANCE,
    REGION,
    S3,
    SECRET_KEY,
    SECRETS,
    SIGNALS,
    STUBS,
    TOKEN,
    WEB,
    Answer,
    Boot,
    Machine,
)
from tests.fixtures.ec2_stack import BUCKET, KEY, user_data
from tests.fixtures.iot_signatures import Keys, asker_of_headers

NUCLEUS = f"https://{WEB}/greengrass-2.15.0.zip"
CONFIG = {
    "coreThing": {
        "thingArn": f"arn:aws:iot:{REGION}:123456789012:thing/belt",
        "iotHost": f"a1b2-ats.iot.{REGION}.amazonaws.com",
        "iotMqttPort": 443,
        "iotRoleAlias": "mli-device",
        "iotCredEndpoint": f"c1d2.credentials.iot.{REGION}.amazonaws.com",
        "awsRegion": REGION,
    },
    "crypto": {
        "principals": {
            "IoTCertificate": {
                "certificatePath": "file:///greengrass/certs/thing.cert.pem",
                "privateKeyPath": "file:///greengrass/certs/thing.private.key",
            }
        },
        "caPath": "file:///greengrass/certs/root.ca.pem",
    },
}
# Named as the component's real one; this one makes a command that writes down what it is asked.
INSTALL = """set -eu
echo "install.sh $*" >>/world/calls
mkdir -p "$1/bin"
cat >"$1/bin/mli" <<'X'
#!/bin/sh
echo "mli $*" >>/world/calls
if [ "$1" = core ]; then cat /world/status; fi
X
chmod 755 "$1/bin/mli"
"""


def zipped(members: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return out.getvalue()


BUNDLE = zipped({"config/config.json": json.dumps(CONFIG), "certs/thing.private.key": "the key"})
ARTIFACT = zipped({"install.sh": INSTALL})
NUCLEUS_ZIP = zipped({"lib/Greengrass.jar": "a jar"})


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def with_core(**changes: str) -> str:
    return user_data(**{"ArtifactKey": KEY, "ArtifactSha256": sha256(ARTIFACT), **changes})


def with_greengrass(**changes: str) -> str:
    nucleus = {"NucleusUrl": NUCLEUS, "NucleusSha256": sha256(NUCLEUS_ZIP)}
    return user_data(Runtime="greengrass", **{**nucleus, **changes})


def boot(
    folder: Path,
    script: str,
    *,
    answers: dict[str, list[Answer]] | None = None,
    stubs: dict[str, str] | None = None,
    connected: bool = True,
    debian: bool = True,
) -> Boot:
    secret = json.dumps({"SecretBinary": base64.b64encode(BUNDLE).decode()}).encode()
    usual = {
        f"{S3}/{BUCKET}/{KEY}": [Answer(ARTIFACT)],
        f"{SECRETS}/": [Answer(secret)],
        f"{SIGNALS}/": [Answer()],
        NUCLEUS.removeprefix("https://"): [Answer(NUCLEUS_ZIP)],
    }
    (folder / "world").mkdir()
    (folder / "world" / "status").write_text(json.dumps({"broker": {"connected": connected}}))
    return Machine(folder, {**usual, **(answers or {})}, {**STUBS, **(stubs or {})}, debian=debian).boot(script)


def assert_failed(done: Boot, because: str) -> None:
    """The stack heard of the failure, and nothing that was brought stayed."""
    assert done.code != 0
    assert because in done.output
    assert [signal["Status"] for signal in done.signals] == ["FAILURE"]
    assert not list((done.root / "var" / "tmp").iterdir())


def assert_nothing_was_installed(done: Boot) -> None:
    assert not [call for call in done.calls if call.split()[0] in ("apt-get", "dnf", "install.sh", "mli", "java")]
    for name in ("opt", "greengrass", "systemd", "local"):
        assert not list((done.root / name).iterdir())
    assert not (done.root / "var" / "lib" / "mli").exists()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """One that went well."""
    return boot(tmp_path_factory.mktemp("core"), with_core())


def test_a_core_is_installed_and_the_stack_hears_of_it_once_it_is_connected(core: Boot) -> None:
    assert core.code == 0, core.output
    assert [call for call in core.calls if call.split()[0] in ("install.sh", "mli")] == [
        "install.sh /opt/mli",
        "mli device install --root /var/lib/mli",
        "mli core status --json --root /var/lib/mli",
    ]
    assert core.signals == [
        {
            "Action": "SignalResource",
            "Version": "2010-05-15",
            "StackName": f"arn:aws:cloudformation:{REGION}:123456789012:stack/a-stack/1",
            "LogicalResourceId": "Core",
            "UniqueId": INSTANCE,
            "Status": "SUCCESS",
        }
    ]


def test_the_key_is_root_s_alone_and_nothing_of_the_bundle_is_left_elsewhere(core: Boot) -> None:
    key = core.root / "var" / "lib" / "mli" / "certs" / "thing.private.key"
    assert key.read_text() == "the key"
    assert mode(key) == 0o600
    assert not list((core.root / "var" / "tmp").iterdir())
    assert "the key" not in core.output
    assert SECRET_KEY not in core.output
    assert TOKEN not in core.output


def test_the_service_is_kept_from_the_role_s_keys(core: Boot) -> None:
    unit = core.root / "systemd" / "system" / "mli.service.d" / "no-metadata.conf"
    assert unit.read_text() == "[Service]\nIPAddressDeny=169.254.169.254 fd00:ec2::254\n"
    assert mode(unit) == 0o644


def test_an_artifact_of_another_digest_installs_nothing(tmp_path: Path) -> None:
    done = boot(tmp_path, with_core(ArtifactSha256="0" * 64))
    assert_failed(done, f"artifact.zip has the sha256 {sha256(ARTIFACT)}, not {'0' * 64}")
    assert_nothing_was_installed(done)


def test_a_core_that_never_connects_is_a_failure(tmp_path: Path) -> None:
    done = boot(tmp_path, with_core(), connected=False)
    assert_failed(done, "this did not come true: core_is_connected")
    assert done.calls.count("sleep 10") == 30


@pytest.mark.parametrize(
    "install",
    ["exit 3\n", INSTALL.replace('echo "mli $*" >>/world/calls', "exit 3")],
    ids=["install.sh", "mli device install"],
)
def test_an_installation_that_fails_is_a_failure(tmp_path: Path, install: str) -> None:
    broken = zipped({"install.sh": install})
    done = boot(
        tmp_path,
        with_core(ArtifactSha256=sha256(broken)),
        answers={f"{S3}/{BUCKET}/{KEY}": [Answer(broken)]},
    )
    assert_failed(done, "ended with FAILURE (code 3)")


def test_a_secret_without_a_binary_value_is_told(tmp_path: Path) -> None:
    done = boot(tmp_path, with_core(), answers={f"{SECRETS}/": [Answer(b'{"SecretString": "x"}')]})
    assert_failed(done, "has no binary value: store it with --secret-binary fileb://greengrass-setup.zip")
    assert_nothing_was_installed(done)


def test_what_aws_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    denied = Answer(b'{"Message": "not authorized to perform: secretsmanager:GetSecretValue"}', 403)
    done = boot(tmp_path, with_core(), answers={f"{SECRETS}/": [denied]})
    assert_failed(done, "not authorized to perform: secretsmanager:GetSecretValue")
    assert [call for call in done.calls if call.startswith("sleep ")] == ["sleep 2", "sleep 4", "sleep 8", "sleep 16"]


def test_a_busy_service_is_asked_again(tmp_path: Path) -> None:
    busy = Answer(b"SlowDown", 503)
    done = boot(tmp_path, with_core(), answers={f"{S3}/{BUCKET}/{KEY}": [busy, Answer(ARTIFACT)]})
    assert [signal["Status"] for signal in done.signals] == ["SUCCESS"]
    assert "sleep 2" in done.calls


def test_no_answer_sends_the_script_elsewhere(tmp_path: Path) -> None:
    away = Answer(status=307, headers={"Location": f"https://{WEB}/other"})
    done = boot(
        tmp_path,
        with_core(),
        answers={f"{S3}/{BUCKET}/{KEY}": [away], f"{WEB}/other": [Answer(ARTIFACT)]},
    )
    assert_failed(done, "307")
    assert not [one for one in done.asked if one.url == f"{WEB}/other"]


def test_its_requests_carry_the_role_s_signature(core: Boot) -> None:
    keys = Keys(ACCESS_KEY, SECRET_KEY, token=TOKEN)
    services = {S3: "s3", SECRETS: "secretsmanager", SIGNALS: "cloudformation"}
    seen = []
    for one in core.asked:
        host, _, path = one.url.partition("/")
        if host in services:
            headers = {name.lower(): value for name, value in one.headers.items()}
            asker_of_headers(one.method, f"/{path}", headers, one.body, [keys], REGION, services[host])
            seen.append(services[host])
    assert seen == ["secretsmanager", "s3", "cloudformation"]


def test_metadata_are_asked_by_token_only(core: Boot) -> None:
    asked = [one for one in core.asked if one.url.startswith("169.254.169.254/latest/meta-data/")]
    assert asked
    assert all(any(name.lower() == "x-aws-ec2-metadata-token" for name in one.headers) for one in asked)


class TestOtherSystems:
    def test_amazon_linux_gets_a_python_that_fits(self, tmp_path: Path) -> None:
        done = boot(tmp_path, with_core(System="amazon-linux-2023"), debian=False)
        assert [signal["Status"] for signal in done.signals] == ["SUCCESS"]
        assert "dnf -q -y install python3.11" in done.calls
        assert not any(call.startswith("apt-get ") for call in done.calls)

    def test_debian_gets_the_session_s_agent_by_its_digest(self, tmp_path: Path) -> None:
        agent = b"a package"
        address = f"{S3}/amazon-ssm-{REGION}/latest/debian_amd64/amazon-ssm-agent.deb"
        done = boot(tmp_path, with_core(AgentSha256=sha256(agent)), answers={address: [Answer(agent)]})
        assert [signal["Status"] for signal in done.signals] == ["SUCCESS"]
        assert any(call.startswith("dpkg -i ") for call in done.calls)
        assert "systemctl enable --now amazon-ssm-agent" in done.calls

    def test_another_agent_is_not_installed(self, tmp_path: Path) -> None:
        address = f"{S3}/amazon-ssm-{REGION}/latest/debian_amd64/amazon-ssm-agent.deb"
        done = boot(tmp_path, with_core(AgentSha256="0" * 64), answers={address: [Answer(b"another")]})
        assert_failed(done, "amazon-ssm-agent.deb has the sha256")
        assert not any(call.startswith("dpkg -i ") for call in done.calls)


class TestGreengrass:
    def test_the_nucleus_gets_what_the_bundle_says(self, tmp_path: Path) -> None:
        done = boot(tmp_path, with_greengrass())
        assert done.code == 0, done.output
        assert [signal["Status"] for signal in done.signals] == ["SUCCESS"]
        told: dict[str, Any] = json.loads((tmp_path / "world" / "nucleus.yaml").read_text())
        assert told == {
            "system": {
                "rootpath": "/greengrass/v2",
                "thingName": "belt",
                "certificateFilePath": "/greengrass/certs/thing.cert.pem",
                "privateKeyPath": "/greengrass/certs/thing.private.key",
                "rootCaPath": "/greengrass/certs/root.ca.pem",
            },
            "services": {
                "aws.greengrass.Nucleus": {
                    "configuration": {
                        "awsRegion": REGION,
                        "iotRoleAlias": "mli-device",
                        "iotDataEndpoint": f"a1b2-ats.iot.{REGION}.amazonaws.com",
                        "iotCredEndpoint": f"c1d2.credentials.iot.{REGION}.amazonaws.com",
                        "greengrassDataPlanePort": 443,
                        "interpolateComponentConfiguration": True,
                        "mqtt": {"port": 443},
                    }
                }
            },
        }
        java = next(call for call in done.calls if call.startswith("java "))
        assert java.endswith("--component-default-user ggc_user:ggc_group --setup-system-service true")
        assert "/lib/Greengrass.jar --init-config " in java

    def test_a_nucleus_of_another_digest_is_not_started(self, tmp_path: Path) -> None:
        done = boot(tmp_path, with_greengrass(NucleusSha256="0" * 64))
        assert_failed(done, "nucleus.zip has the sha256")
        assert_nothing_was_installed(done)

    def test_a_nucleus_that_does_not_connect_is_a_failure(self, tmp_path: Path) -> None:
        silent = "mkdir -p /greengrass/v2/logs\necho ERROR >/greengrass/v2/logs/greengrass.log\n"
        done = boot(tmp_path, with_greengrass(), stubs={"java": silent})
        assert_failed(done, "this did not come true: nucleus_is_connected")

    def test_a_nucleus_that_does_not_run_is_a_failure(self, tmp_path: Path) -> None:
        dead = 'if [ "$1" = is-active ]; then exit 3; fi\n'
        done = boot(tmp_path, with_greengrass(), stubs={"systemctl": dead})
        assert_failed(done, "this did not come true: nucleus_is_connected")
