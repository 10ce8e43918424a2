"""``mli watch --aws`` and ``mli deploy --aws`` where an HTTP proxy is the only way out."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fixtures.brokers import Certificates
from tests.fixtures.hostile_http import ForwardProxy
from tests.fixtures.iot_core import IotCore
from tests.fixtures.iot_credentials import GivenKeys
from tests.fixtures.iot_registry import FixedRegistry
from tests.fixtures.iot_signatures import Keys
from tests.fixtures.mli_process import kill_group, run_mli, start_mli
from tests.fixtures.moto_server import ACCESS_KEY, SECRET_KEY, MotoServer
from tests.fixtures.simulated_things import SimulatedThings, obey

USER, PASSWORD = "me", "h/sh@1"
WRITTEN = "me:h%2Fsh%401"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}
DEPLOYMENT = f"model: {{uri: s3://bucket/model.zip, sha256: {'ab' * 32}}}\nsource: demo\n"


@pytest.fixture
def iot(
    tmp_path: Path, certificates: Certificates, moto: MotoServer, moto_environment: dict[str, str]
) -> Iterator[IotCore]:
    """It lets the keys of the environment do everything."""
    moto.reset()
    moto.client("iot", moto_environment["AWS_REGION"]).create_thing(thingName="line-1")
    (tmp_path / "iot").mkdir()
    keys = Keys(ACCESS_KEY, SECRET_KEY, (EVERYTHING,))
    core = IotCore(tmp_path / "iot", certificates, FixedRegistry(), [keys], GivenKeys("mli-device", "a", "b"))
    core.start()
    yield core
    core.stop()


@pytest.fixture
def proxy(iot: IotCore, make_proxy: Callable[..., ForwardProxy], monkeypatch: pytest.MonkeyPatch) -> ForwardProxy:
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    made = make_proxy({iot.endpoint: iot.port}, f"Basic {basic}")
    for name in ("https_proxy", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{WRITTEN}@127.0.0.1:{made.port}")
    return made


def at(iot: IotCore) -> list[str]:
    return ["--aws", "--endpoint", iot.endpoint, "--ca", str(iot.ca)]


def test_predictions_come_through_the_proxy(iot: IotCore, proxy: ForwardProxy, tmp_path: Path) -> None:
    watch = start_mli("watch", *at(iot), "--json", "--count", "1", state=tmp_path)
    try:
        assert watch.stderr is not None
        assert "watching" in watch.stderr.readline()
        said = ["mosquitto_pub", "-p", str(iot.behind.port), "-q", "1", "-t", "mli/predictions/line-1", "-m", "1"]
        subprocess.run(said, check=True)
        output, errors = watch.communicate(timeout=30)
    finally:
        kill_group(watch)
    assert json.loads(output)["payload"] == 1, errors
    assert proxy.asked == [f"CONNECT {iot.endpoint}"]


def test_a_deployment_goes_through_the_proxy(iot: IotCore, proxy: ForwardProxy, tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text(DEPLOYMENT)
    with SimulatedThings(iot.behind.settings(), {"line-1": obey}):
        arguments = ["deploy", "deployment.yaml", "--thing", "line-1", "--wait", *at(iot)]
        done = run_mli(*arguments, state=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(proxy.asked) == {f"CONNECT {iot.endpoint}"}


def test_a_proxy_that_does_not_let_us_in_is_told_without_the_password(
    iot: IotCore, proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:h%2Fsh%402@127.0.0.1:{proxy.port}")
    done = run_mli("watch", *at(iot), state=tmp_path)
    assert done.returncode == 1
    assert "The proxy does not take this user name and password." in done.stderr
    assert f"{iot.endpoint} through the proxy http://127.0.0.1:{proxy.port}" in done.stderr
    assert not [secret for secret in ("h/sh", "h%2Fsh", "Basic", "aC9z") if secret in done.stdout + done.stderr]
