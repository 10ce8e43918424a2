"""`mli model push`: what was verified arrives whole, once, under its own digest; or nothing does."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from tests.fixtures.brokers import ROOT, wait_until
from tests.fixtures.color_model import color_archive
from tests.fixtures.hostile_http import HostileServer, Talk, pump_both
from tests.fixtures.mli_here import mli_here
from tests.fixtures.mli_process import kill_group, start_mli
from tests.fixtures.moto_server import MotoServer
from tests.fixtures.mxnet_files import golden_archive, synset
from tests.fixtures.swift_server import ACCESS_KEY, REGION, SECRET_KEY, SwiftServer

from mli.cloud import model_push
from mli.cloud.aws import open_aws
from mli.cloud.model_push import Archive, Place, upload
from mli.cloud.model_store import store_of
from mli.config.settings import ModelSource, StoreSettings
from mli.errors import RefusedError
from mli.models.fetching.fetcher import Fetcher

LARGE_BYTES = 18 * 1024 * 1024


@pytest.fixture(autouse=True)
def at_swift(swift: SwiftServer, moto_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """Who asks is known to moto; the models go to Swift."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", swift.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture
def bucket(swift: SwiftServer, request: pytest.FixtureRequest) -> str:
    """An empty bucket of the test's own."""
    name = f"push-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"
    swift.make_bucket(name)
    return name


@pytest.fixture
def store(swift: SwiftServer) -> Any:
    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    return session.client("s3", endpoint_url=swift.endpoint)


def large_archive(folder: Path) -> Path:
    """Three parts of an upload, most of them weights that nothing reads."""
    path = color_archive(folder, "large.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("LICENSE.bin", os.urandom(LARGE_BYTES))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pushed(desk: Path, *arguments: object) -> dict[str, Any]:
    done = mli_here("model", "push", *arguments, "--json", cwd=desk)
    assert done.returncode == 0, done.stderr
    body: dict[str, Any] = json.loads(done.stdout)
    return body


def keys(store: Any, bucket: str) -> list[str]:
    return [item["Key"] for item in store.list_objects_v2(Bucket=bucket).get("Contents", ())]


def unfinished(store: Any, bucket: str) -> list[str]:
    return [item["Key"] for item in store.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


@pytest.mark.parametrize(("make", "parts"), [(color_archive, ""), (large_archive, "-3")])
def test_the_archive_arrives_whole_under_its_digest(
    tmp_path: Path, store: Any, bucket: str, make: Callable[[Path], Path], parts: str
) -> None:
    archive = make(tmp_path)
    sha256 = digest(archive)
    body = pushed(tmp_path, archive, f"s3://{bucket}/line/models-of-mine/")
    key = f"line/models-of-mine/models/{sha256}/{archive.name}"
    assert (body["uri"], body["sha256"]) == (f"s3://{bucket}/{key}", sha256)
    assert (body["uploaded"], body["already_there"]) == (True, False)
    found = store.get_object(Bucket=bucket, Key=key)
    assert hashlib.sha256(found["Body"].read()).hexdigest() == sha256 == found["Metadata"]["sha256"]
    assert found["ETag"].strip('"').endswith(parts)
    assert unfinished(store, bucket) == []


def test_what_is_there_already_is_not_sent_again(tmp_path: Path, store: Any, bucket: str) -> None:
    archive = color_archive(tmp_path)
    pushed(tmp_path, archive, f"s3://{bucket}")
    (key,) = keys(store, bucket)
    before = store.head_object(Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPHeaders"]["x-amz-request-id"]
    body = pushed(tmp_path, archive, f"s3://{bucket}")
    assert (body["uploaded"], body["already_there"]) == (False, True)
    assert before
    store.put_object(Bucket=bucket, Key=key, Body=b"something else", Metadata={"sha256": "0" * 64})
    assert pushed(tmp_path, archive, f"s3://{bucket}")["uploaded"]
    assert store.get_object(Bucket=bucket, Key=key)["Body"].read() == archive.read_bytes()


def test_the_lines_of_the_deployment_are_printed(tmp_path: Path, bucket: str) -> None:
    archive = color_archive(tmp_path, "My colors (v2).zip")
    done = mli_here("model", "push", archive, f"s3://{bucket}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    models = yaml.safe_load("models:" + done.stdout.partition("\nmodels:")[2])["models"]
    sha256 = digest(archive)
    uri = f"s3://{bucket}/models/{sha256}/My-colors-v2-.zip"
    assert models == {"My-colors-v2": {"uri": uri, "sha256": sha256}}


def test_an_archive_of_mxnet_is_verified_too(tmp_path: Path, bucket: str) -> None:
    archive = golden_archive("inception-rounds-up-0.8", tmp_path / "net.tar.gz", extra={"synset.txt": synset(10)})
    assert pushed(tmp_path, archive, f"s3://{bucket}")["uri"].endswith("/net.tar.gz")


def test_the_shared_stacks_bucket_is_taken_where_none_is_named(tmp_path: Path, moto: MotoServer, bucket: str) -> None:
    moto.reset()
    missing = mli_here("model", "push", color_archive(tmp_path), cwd=tmp_path)
    assert missing.returncode == 1
    assert "mli stack deploy --shared" in missing.stderr
    template = {
        "Resources": {"Thing": {"Type": "AWS::IoT::Thing", "Properties": {}}},
        "Outputs": {"ModelBucket": {"Value": bucket}},
    }
    moto.client("cloudformation").create_stack(StackName="mli-shared", TemplateBody=json.dumps(template))
    assert pushed(tmp_path, color_archive(tmp_path))["uri"].startswith(f"s3://{bucket}/models/")


@pytest.fixture
def keys_alone(swift: SwiftServer, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """No account: whoever asks AWS for something finds nothing there. Nobody said a region either."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("keys_alone")
@pytest.mark.parametrize(("make", "says"), [(color_archive, "the option"), (large_archive, "the environment")])
def test_a_store_of_ones_own_takes_access_keys_alone(
    tmp_path: Path,
    store: Any,
    swift: SwiftServer,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Path],
    says: str,
) -> None:
    archive = make(tmp_path)
    option = ["--endpoint", swift.endpoint] if says == "the option" else []
    if not option:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", swift.endpoint)
    body = pushed(tmp_path, archive, f"s3://{bucket}/line", *option)
    assert (body["uploaded"], body["endpoint"]) == (True, swift.endpoint)
    key = body["uri"].removeprefix(f"s3://{bucket}/")
    assert store.get_object(Bucket=bucket, Key=key)["Body"].read() == archive.read_bytes()
    assert pushed(tmp_path, archive, f"s3://{bucket}/line", *option)["already_there"]


@pytest.mark.usefixtures("keys_alone")
def test_what_is_printed_for_a_store_of_ones_own_lets_a_device_fetch(
    tmp_path: Path, swift: SwiftServer, bucket: str
) -> None:
    """The command is that of the page."""
    archive = color_archive(tmp_path, "pets.zip")
    page = (ROOT / "docs" / "archives.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("mli ") and "--endpoint" in line]
    command = line.replace("s3://BUCKET", f"s3://{bucket}").replace("https://s3.example.org", swift.endpoint)
    done = mli_here(*shlex.split(command, comments=True)[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not AWS: no account was asked for" in done.stdout
    device = yaml.safe_load("store:" + done.stdout.partition("\nstore:")[2].partition("\n(")[0])
    assert device == {"store": {"endpoint": swift.endpoint}}
    (model,) = yaml.safe_load("models:" + done.stdout.partition("\nmodels:")[2].partition("\nIn device")[0])[
        "models"
    ].values()
    settings = StoreSettings(**device["store"], access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY)
    fetcher = Fetcher(settings, None, None, "line-7", environ={})
    fetched = fetcher.fetch(ModelSource(model["uri"], model["sha256"]), tmp_path)
    assert fetched.path.read_bytes() == archive.read_bytes()


@pytest.mark.usefixtures("keys_alone")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--endpoint", "http://127.0.0.1:1"), "say s3://BUCKET as well"),
        (("s3://models", "--endpoint", "https://s3.eu-west-1.amazonaws.com"), "leave it out"),
        (("s3://models", "--endpoint", "https://me:secret@s3.example.org"), "without user"),
    ],
)
def test_an_endpoint_that_will_not_do_is_told(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    done = mli_here("model", "push", color_archive(tmp_path), *arguments, cwd=tmp_path)
    assert (done.returncode, told in done.stderr, "secret" in done.stderr) == (2, True, False), done.stderr


@pytest.mark.usefixtures("keys_alone")
def test_a_store_of_ones_own_wants_access_keys(
    tmp_path: Path, swift: SwiftServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    arguments = ("s3://models", "--endpoint", swift.endpoint)
    done = mli_here("model", "push", color_archive(tmp_path), *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "There are no access keys for this store." in done.stderr
    assert "AWS_ACCESS_KEY_ID" in done.stderr


def test_a_dry_run_uploads_nothing(tmp_path: Path, store: Any, bucket: str) -> None:
    assert not pushed(tmp_path, color_archive(tmp_path), f"s3://{bucket}", "--dry-run")["uploaded"]
    assert keys(store, bucket) == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "truncated"),
        (lambda path: path.write_bytes(b"hello"), "kind"),
        (lambda path: color_archive(path.parent, labels=("red", "green")), "labels"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: (path.unlink(), path.mkdir()), "a folder"),
    ],
)
def test_a_bad_archive_is_refused_before_anything_is_sent(
    tmp_path: Path, store: Any, bucket: str, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(color_archive(tmp_path))
    done = mli_here("model", "push", tmp_path / "color.zip", f"s3://{bucket}", cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert keys(store, bucket) == []


@pytest.mark.parametrize(
    ("destination", "environment", "code", "told"),
    [
        ("s3://no-such-bucket-here", {}, 1, "There is no bucket no-such-bucket-here"),
        (
            "s3://BUCKET",
            {"AWS_ACCESS_KEY_ID": "test:guest", "AWS_SECRET_ACCESS_KEY": "guest-secret"},
            1,
            "The store refuses.",
        ),
        ("s3://BUCKET", {"AWS_SECRET_ACCESS_KEY": "another"}, 1, "SignatureDoesNotMatch"),
        ("s3://BUCKET", {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, 1, "The store cannot be reached."),
        ("BUCKET", {}, 2, "s3://BUCKET/PREFIX"),
        ("https://BUCKET", {}, 2, "s3://BUCKET/PREFIX"),
    ],
)
def test_a_bucket_that_will_not_do_is_told_before_anything_is_sent(
    tmp_path: Path,
    store: Any,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    destination: str,
    environment: dict[str, str],
    code: int,
    told: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    place = destination.replace("BUCKET", bucket)
    done = mli_here("model", "push", color_archive(tmp_path), place, cwd=tmp_path)
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
    assert keys(store, bucket) == []


def archive_of(path: Path) -> Archive:
    return Archive(path, digest(path), path.stat().st_size)


@pytest.mark.parametrize("make", [color_archive, large_archive])
def test_an_archive_that_changed_since_it_was_verified_is_not_kept(
    tmp_path: Path, store: Any, bucket: str, make: Callable[[Path], Path]
) -> None:
    verified = archive_of(make(tmp_path))
    with verified.path.open("r+b") as file:
        file.seek(-30, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(RefusedError, match="changed while"):
        upload(store_of(open_aws()), Place(bucket, "key"), verified, lambda *_: None)
    assert keys(store, bucket) == []
    assert unfinished(store, bucket) == []


def test_an_archive_that_is_written_to_while_it_is_sent_is_not_kept(
    tmp_path: Path, store: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_push, "_AT_ONCE", 1)
    monkeypatch.setattr(model_push, "_PART_BYTES", 5 * 1024 * 1024)
    verified = archive_of(large_archive(tmp_path))

    def write_more(*_: int) -> None:
        with verified.path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(RefusedError, match="changed while"):
        upload(store_of(open_aws()), Place(bucket, "key"), verified, write_more)
    assert keys(store, bucket) == []
    assert unfinished(store, bucket) == []


@pytest.fixture
def stuck_store(
    swift: SwiftServer, make_server: Callable[..., HostileServer], monkeypatch: pytest.MonkeyPatch
) -> HostileServer:
    """Swift, but the second part of an upload never gets an answer."""
    import socket

    port = int(swift.endpoint.rpartition(":")[2])

    def answer(talk: Talk) -> None:
        if "partNumber=2" in talk.target:
            talk.hang()
            return
        with socket.create_connection(("127.0.0.1", port)) as onward:
            lines = [f"{talk.method} {talk.target} HTTP/1.1", *(f"{n}: {v}" for n, v in talk.headers.items()), "", ""]
            onward.sendall("\r\n".join(lines).encode())
            pump_both(talk.connection, onward)

    server = make_server(answer)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    return server


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_upload_that_is_interrupted_leaves_no_object_and_can_be_made_again(
    tmp_path: Path,
    store: Any,
    bucket: str,
    stuck_store: HostileServer,
    swift: SwiftServer,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    archive = large_archive(tmp_path)
    process = start_mli("model", "push", archive, f"s3://{bucket}", state=tmp_path / "state", cwd=tmp_path)
    try:
        wait_until(lambda: any("partNumber=2" in talk.target for talk in stuck_store.talks), "the second part", 60)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        kill_group(process)
    assert keys(store, bucket) == []
    if number == signal.SIGINT:
        assert process.returncode == 130, errors
        assert unfinished(store, bucket) == []
    else:  # what a killed process leaves, the bucket's own rule takes away
        assert len(unfinished(store, bucket)) == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", swift.endpoint)
    assert pushed(tmp_path, archive, f"s3://{bucket}")["uploaded"]
    assert [
        hashlib.sha256(store.get_object(Bucket=bucket, Key=key)["Body"].read()).hexdigest()
        for key in keys(store, bucket)
    ] == [digest(archive)]
