"""The accelerator's four failures, made to happen with real parts: the doctor names each, and what ran serves on."""

from __future__ import annotations

import hashlib
import site
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.contract.tiny_models import write_tflite_means
from tests.fixtures.brokers import Mosquitto
from tests.fixtures.color_model import color_archive, numbered_images
from tests.fixtures.device_root import DeviceRoot, root_without
from tests.fixtures.mli_process import run_mli
from tests.fixtures.swift_server import REGION, SwiftServer
from tests.unit.models.model_files import make_zip

MakeMosquitto = Callable[..., Mosquitto]


def on_images(tmp_path: Path, model: object, **changes: Any) -> dict[str, Any]:
    """A deployment of one pipeline, ``main``."""
    if not (tmp_path / "images").exists():
        numbered_images(tmp_path / "images", 3)
    source = {"kind": "images", "uri": str(tmp_path / "images"), "interval": "100ms"}
    return {"models": {"main": model}, "pipelines": {"main": {"source": source, **changes}}}


# --- 1: the model's bucket lies in another region --------------------------------------------------------------


def test_another_region_is_followed_and_told(
    tmp_path: Path, make_mosquitto: MakeMosquitto, swift: SwiftServer
) -> None:
    device = device_at(swift, tmp_path, make_mosquitto)
    archive = color_archive(tmp_path).read_bytes()
    model = {"uri": swift.put("elsewhere.zip", archive), "sha256": sha256(archive), "region": "us-west-2"}
    with device.core():
        assert device.want(on_images(tmp_path, model) | {"revision": 1})["state"] == "healthy"
        found = device.doctor()
    assert found["model store"]["state"] == "ok"
    assert f"region {REGION} (followed from us-west-2)" in found["model store"]["detail"]


def test_a_bucket_that_is_not_there_is_named_with_what_was_asked(
    tmp_path: Path, make_mosquitto: MakeMosquitto, swift: SwiftServer
) -> None:
    device = device_at(swift, tmp_path, make_mosquitto)
    model = {"uri": "s3://nobodys-bucket/m.zip", "sha256": "0" * 64}
    with device.core():
        device.want(on_images(tmp_path, model) | {"revision": 1})
        found = device.doctor()
    assert found["model store"]["state"] == "fail"
    assert "nobodys-bucket" in found["model store"]["detail"]
    assert "keys of the device's settings" in found["model store"]["detail"]
    assert found["deployment"]["state"] == "fail"  # nothing ran before


def device_at(swift: SwiftServer, tmp_path: Path, make_mosquitto: MakeMosquitto) -> DeviceRoot:
    device = DeviceRoot(tmp_path, make_mosquitto())
    settings = swift.settings()
    device.write(
        store={
            "endpoint": settings.endpoint,
            "access_key_id": settings.access_key_id,
            "secret_access_key": settings.secret_access_key,
        },
        allow={"paths": [str(tmp_path)]},
    )
    return device


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- 2: isolation is refused -----------------------------------------------------------------------------------

NO_NAMESPACES = ("bwrap", "--unshare-user", "--disable-userns", "--cap-drop", "ALL", "--dev-bind", "/", "/")
"""In there the kernel itself refuses every further namespace."""


def test_where_containers_are_refused_a_model_works_without(tmp_path: Path, make_mosquitto: MakeMosquitto) -> None:
    device = DeviceRoot(tmp_path, make_mosquitto(), inside=NO_NAMESPACES)
    model = {"uri": str(color_archive(tmp_path))}
    with device.core():
        assert device.deploy(on_images(tmp_path, model))["state"] == "healthy"
        running = device.doctor()["isolation"]
    stopped = device.doctor()["isolation"]
    for found in (running, stopped):
        assert found["state"] == "warn"
        assert "namespace" in found["detail"]


def test_a_container_that_is_demanded_and_refused(tmp_path: Path, make_mosquitto: MakeMosquitto) -> None:
    device = DeviceRoot(tmp_path, make_mosquitto(), inside=NO_NAMESPACES)
    device.write(min_isolation="container")
    model = {"uri": str(color_archive(tmp_path))}
    with device.core():
        last = device.deploy(on_images(tmp_path, model, isolation="container"))
        found = device.doctor()
    assert last["state"] in ("failed", "refused")
    assert found["isolation"]["state"] == "fail"
    assert "device.yaml (min_isolation) asks for a container, and none can be made" in found["isolation"]["detail"]
    assert found["deployment"]["state"] == "fail"
    assert "container" in found["deployment"]["detail"]


# --- 3: a runtime library is missing ---------------------------------------------------------------------------


def tflite_archive(tmp_path: Path) -> Path:
    model = write_tflite_means(tmp_path / "m.tflite").read_bytes()
    return make_zip(tmp_path / "m.zip", {"m.tflite": model, "labels.txt": b"r\ng\nb\n"})


def test_a_runtime_that_is_not_installed(tmp_path: Path, make_mosquitto: MakeMosquitto) -> None:
    device = DeviceRoot(tmp_path, make_mosquitto(), changes=root_without(tmp_path, "ai_edge_litert"))
    with device.core():
        assert device.deploy(on_images(tmp_path, {"uri": str(color_archive(tmp_path))}))["state"] == "healthy"
        last = device.deploy(on_images(tmp_path, {"uri": str(tflite_archive(tmp_path))}))
        found = device.doctor()
    assert last["state"] in ("failed", "refused")
    assert last["serving"] is not None
    assert found["deployment"]["state"] == "warn"
    assert "pip install ai-edge-litert" in found["deployment"]["remedy"]
    assert found["runtimes"]["state"] == "fail"
    assert found["runtimes"]["detail"] == "litert, which .tflite models need, is not installed"
    assert found["runtimes"]["remedy"].startswith("pip install ai-edge-litert, into ")


def test_a_library_of_the_system_is_missing(tmp_path: Path, make_mosquitto: MakeMosquitto) -> None:
    """The runtime's own module, asking for libatlas.so.3 as the accelerator's MXNet did, on a system without it."""
    overlay = tmp_path / "overlay"
    broken = runtime_that_needs(overlay, b"libatlas.so.3")
    device = DeviceRoot(tmp_path, make_mosquitto(), changes={"PYTHONPATH": str(overlay)})
    with device.core():
        last = device.deploy(on_images(tmp_path, {"uri": str(tflite_archive(tmp_path))}))
        found = device.doctor()
    assert last["state"] in ("failed", "refused")
    assert "libatlas.so.3" in str(last["error"]), (broken, last)
    assert "libatlas.so.3" in found["deployment"]["detail"]
    assert found["runtimes"]["state"] == "fail"
    assert "lacks a library of the system: libatlas.so.3" in found["runtimes"]["detail"]
    assert found["runtimes"]["remedy"] == "install that library: apt install libatlas3-base"


def runtime_that_needs(overlay: Path, library: bytes) -> Path:
    """LiteRT with one module that is linked to another library; the rest of it are links."""
    package = next(Path(place) / "ai_edge_litert" for place in site.getsitepackages())
    own = overlay / package.name
    own.mkdir(parents=True)
    for path in package.iterdir():
        (own / path.name).symlink_to(path)
    broken = own / "_pywrap_litert_interpreter_wrapper.so"
    data = broken.read_bytes()
    broken.unlink()
    old = b"libgcc_s.so.1"
    assert len(old) == len(library)
    assert data.count(b"\0" + old + b"\0") == 1
    broken.write_bytes(data.replace(b"\0" + old + b"\0", b"\0" + library + b"\0"))
    return broken


# --- 4: out of memory ------------------------------------------------------------------------------------------


def test_a_worker_that_needs_more_than_its_limit(tmp_path: Path, make_mosquitto: MakeMosquitto) -> None:
    device = DeviceRoot(tmp_path, make_mosquitto())
    model = {"uri": str(color_archive(tmp_path))}
    with device.core():
        assert device.deploy(on_images(tmp_path, model))["state"] == "healthy"
        assert device.doctor()["out of memory"]["state"] == "ok"
        last = device.deploy(on_images(tmp_path, model, limits={"memory": "32MB"}))
        found = device.doctor()
        assert device.status()["health"] == "healthy"
    assert last["state"] in ("failed", "refused", "rolled_back")
    assert found["out of memory"]["state"] == "fail"
    assert "32 MB" in found["out of memory"]["detail"]
    assert "limits: {memory:" in found["out of memory"]["remedy"]


def test_a_worker_that_grows_beyond_its_limit(tmp_path: Path) -> None:
    """`mli run` has no canary: the worker itself is ended, as the accelerator's was at 165 of its 120 MB."""
    numbered_images(tmp_path / "images", 3)
    (tmp_path / "run.yaml").write_text(
        f"model: {color_archive(tmp_path)}\nsource: images\nthing: t\nroot: root\nlimits: {{memory: 32MB}}\n"
    )
    ended = run_mli("run", "run.yaml", state=tmp_path, cwd=tmp_path)
    assert ended.returncode == 1
    shown = run_mli("doctor", "--root", "root", state=tmp_path, cwd=tmp_path)
    assert shown.returncode == 1
    line = next(line for line in shown.stdout.splitlines() if "out of memory" in line)
    assert line.startswith("FAIL")
    assert "at most 32 MB" in line
    assert "limits: {memory:" in shown.stdout


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    shown = run_mli("doctor", "--root", "nowhere", state=tmp_path, cwd=tmp_path)
    assert shown.returncode == 2
    assert "there is no such folder" in shown.stderr
    assert "nowhere" in shown.stderr
