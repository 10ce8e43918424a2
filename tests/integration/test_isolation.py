"""Workers in containers and without: what they see, what they may use, how their end is told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from tests.fixtures import prying
from tests.fixtures.brokers import wait_until
from tests.fixtures.color_model import SIZE
from tests.fixtures.mli_process import is_alive
from tests.fixtures.worker_lives import Life, Place, make_place, pair, trap_model

from mli.config.settings import IsolationMode, LimitSettings
from mli.core.isolation.bubblewrap import Variant, container_arguments, variants
from mli.core.isolation.environment import child_environment
from mli.core.isolation.isolator import Isolator
from mli.core.isolation.memory import MEBIBYTE
from mli.core.isolation.process import LaunchedProcess
from mli.core.isolation.trial import Containers, try_containers
from mli.core.isolation.view import ImagePaths, View, image_paths, worker_view


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.fixture
def isolator(place: Place) -> Any:
    made = Isolator(hidden=[place.root])
    yield made
    made.close()


def launch(
    isolator: Isolator, *command: object, mode: IsolationMode = "container", **options: Any
) -> LaunchedProcess:
    arguments: dict[str, Any] = {
        "isolation": isolator.resolve(mode),
        "name": "test",
        "memory_bytes": 200 * MEBIBYTE,
        "environment": child_environment(),
        **options,
    }
    return isolator.launch([sys.executable, "-I", *map(str, command)], **arguments)


# --- a model works in each mode ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "auto", "container"])
def test_a_model_works_in_each_mode(place: Place, isolator: Isolator, mode: IsolationMode) -> None:
    """The accelerator's FAQ 2: its runtime refused to run the model in container mode."""
    life = Life(place.settings(mode), place.model, isolator)
    wait_until(lambda: "python" in psutil.Process(life.worker.pid).name(), "the worker's own process")
    death = life.run()
    assert death.source_ended, death.error
    assert [record.image_name for record in life.records] == ["a.png", "b.png", "c.png"]
    assert life.worker.isolation.kind == ("none" if mode == "none" else "container")
    assert life.worker.isolation.why_not is None
    assert life.worker.resident_bytes > 30 * MEBIBYTE
    assert "Seccomp:\t2" in life.process_status  # no new connection, no program, no namespace, in any mode
    assert "NoNewPrivs:\t1" in life.process_status


# --- what a hijacked worker gets --------------------------------------------------------------------------------


def pry(isolator: Isolator, view: View, **asked: Any) -> dict[str, Any]:
    ours, theirs = pair()
    questions = {
        "list": [],
        "read": [],
        "write": [],
        "remove": [],
        "kill": [],
        "connect": [],
        "abstract": "",
        **asked,
    }
    script = Path(prying.__file__)
    view = replace(view, readable=(*view.readable, script))
    with ours, theirs:
        process = launch(isolator, script, theirs.fileno(), view=view, pass_fds=[theirs.fileno()])
        theirs.close()
        ours.sendall(json.dumps(questions).encode() + b"\n")
        line = ours.makefile().readline()
        said = process.stderr.read().decode()
        assert process.wait(30) == 0, said
        process.close()
        return dict(json.loads(line))


@pytest.mark.parametrize("variant", variants(root=True, version=(99,)), ids=lambda variant: variant.lacks() or "all")
def test_a_hijacked_worker_sees_its_model_and_its_images_and_nothing_else(place: Place, variant: Variant) -> None:
    """Also where a device lets us make a weaker container only."""
    here = try_containers()
    assert isinstance(here, Containers)
    isolator = Isolator(hidden=[place.root], containers=replace(here, variant=variant))
    secrets = [place.root / "certs/thing.private.key", place.root / "secrets/broker", place.root / "spool.db"]
    model, image = Path(place.model.directory, "model.onnx"), place.images / "a.png"
    before = model.read_bytes()
    victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
        local.bind(f"\0mli-test-{os.getpid()}")
        local.listen()
        port = server.getsockname()[1]
        found = pry(
            isolator,
            worker_view(place.settings(), place.model),
            list=[str(place.root), str(place.root / "models"), str(place.images), "/home", "/etc"],
            read=[*map(str, [*secrets, model, image, "/etc/passwd", f"/proc/{os.getpid()}/environ"])],
            write=[*map(str, [model, image, "/new", "/usr/new", "/dev/new", "/proc/sys/kernel/domainname"])],
            remove=[str(model), str(image)],
            kill=[os.getpid(), victim.pid],
            connect=[port],
            abstract=f"mli-test-{os.getpid()}",
        )
    lists, reads, writes = found["lists"], found["reads"], found["writes"]
    assert lists[str(place.root)] == ["models"]
    assert lists[str(place.root / "models")] == ["abc"]
    assert lists[str(place.images)] == ["a.png", "b.png", "c.png"]
    assert lists["/home"] == []
    assert "passwd" not in lists["/etc"]
    assert {path for path, outcome in reads.items() if outcome == "done"} == {str(model), str(image)}
    assert all(reads[str(path)] == "ENOENT" for path in secrets)
    assert set(writes.values()) <= {"EROFS", "EACCES", "ENOENT"}, writes
    assert set(found["removes"].values()) == {"EROFS"}
    assert model.read_bytes() == before
    assert set(found["kills"].values()) <= {"ESRCH"}
    assert victim.poll() is None
    victim.communicate(b"\n")
    assert set(found["connects"].values()) <= {"ECONNREFUSED", "ENETUNREACH"}
    assert found["abstract"] == "ECONNREFUSED"
    assert found["interfaces"] == ["lo"]
    assert found["parent"] == 1
    assert found["processes"] == (["1", "2"] if variant.proc else [])
    assert set(found["devices"]) == {"null", "zero", "full", "random", "urandom"}
    if variant.proc:
        assert {int(bits, 16) for bits in found["capabilities"]} == {0}
        assert found["no_new_privileges"] == ["1"]
    assert "AWS_SECRET_ACCESS_KEY" not in found["environment"]
    assert found["mounts"] == "EPERM"
    assert (found["nested"] == "ENOSPC") is variant.no_nesting
    assert (found["temporary"], found["fills"]) == ("done", "ENOSPC")
    assert (found["host"] == "mli-worker") is variant.hostname


def test_a_root_below_a_folder_that_is_seen_stays_hidden(tmp_path: Path) -> None:
    place = make_place(tmp_path / "photos" / "device")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "photos")
    key = tmp_path / "photos" / "key.pem"
    key.write_text("a key")
    isolator = Isolator(hidden=[place.root, key])
    view = View(readable=(link, tmp_path / "photos", Path(place.model.directory)))
    ways = [tmp_path / "photos", link]
    spools = [str(way / "device" / "root" / "spool.db") for way in ways]
    keys = [str(way / "key.pem") for way in ways]
    model, image = str(Path(place.model.directory, "model.onnx")), str(link / "device/images/a.png")
    found = pry(isolator, view, read=[*spools, *keys, model, image], list=[str(place.root)])
    isolator.close()
    reads = found["reads"]
    assert [reads[path] for path in spools] == ["ENOENT", "ENOENT"]
    assert [reads[path] for path in keys] == ["EACCES", "EACCES"]
    assert reads[model] == reads[image] == "done"
    assert found["lists"][str(place.root)] == ["models"]


def test_a_job_of_the_sandbox_sees_its_model_only(place: Place, isolator: Isolator, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    view = View(readable=(Path(place.model.directory),), writable=(out,))
    reads = [
        str(Path(place.model.directory, "model.onnx")),
        str(place.root / "spool.db"),
        str(place.images / "a.png"),
    ]
    found = pry(isolator, view, read=reads, write=[str(out / "made"), str(out)])
    assert list(found["reads"].values()) == ["done", "ENOENT", "ENOENT"]
    assert found["writes"][str(out / "made")] == "done"
    assert (out / "made").read_bytes() == b"x"


def test_links_to_images_elsewhere_are_followed(place: Place, isolator: Isolator, tmp_path: Path) -> None:
    elsewhere, farther = tmp_path / "elsewhere", tmp_path / "farther"
    elsewhere.mkdir()
    farther.mkdir()
    cv2.imwrite(str(farther / "d.png"), np.full((SIZE, SIZE, 3), 60, np.uint8))
    (elsewhere / "d.png").symlink_to(farther / "d.png")
    (place.images / "d.png").symlink_to("../elsewhere/d.png")
    (place.images / "e.png").symlink_to("nowhere.png")
    life = Life(place.settings("container"), place.model, isolator)
    assert life.run().source_ended
    assert [record.image_name for record in life.records if record.image_name] == ["a.png", "b.png", "c.png", "d.png"]


def test_what_a_source_needs(tmp_path: Path) -> None:
    cameras = tmp_path / "cameras"
    for name in ("one", "two"):
        (cameras / name).mkdir(parents=True)
        (cameras / name / "x.png").touch()
    (tmp_path / "disk").mkdir()
    (cameras / "three").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "x.png").touch()
    (cameras / "newest.png").symlink_to(cameras / "two" / "x.png")
    (cameras / "far.png").symlink_to(tmp_path / "disk" / "x.png")
    (cameras / "slash").symlink_to("/")
    (cameras / "circle.png").symlink_to("circle.png")
    (cameras / "through.png").symlink_to(cameras / "one" / "x.png" / "y.png")
    (cameras / "slash.png").symlink_to("/")
    (cameras / "passwords.png").symlink_to("/etc/passwd")
    assert image_paths(str(cameras)) == ImagePaths((cameras,), (tmp_path / "disk" / "x.png",))
    assert image_paths(f"{cameras}/one/x.png") == ImagePaths((cameras / "one",))  # a file may be replaced
    assert image_paths(f"{cameras}/newest.png") == ImagePaths((cameras,), (cameras / "two",))
    glob = image_paths(f"{cameras}/*/x.png")
    assert glob == ImagePaths((cameras,), (tmp_path / "disk", tmp_path / "disk" / "x.png"))
    assert image_paths(f"{tmp_path}/missing") == ImagePaths((tmp_path / "missing",))


@pytest.mark.parametrize("mode", ["container", "none"])
@pytest.mark.parametrize("uri", ["", "**/*.png", "*/*.png"])
def test_a_deployment_from_the_network_reads_nothing_outside_by_way_of_a_link(
    place: Place, isolator: Isolator, tmp_path: Path, mode: IsolationMode, uri: str
) -> None:
    private, disk, deep = tmp_path / "private", tmp_path / "disk", place.images / "deep"
    for folder in (private, disk, deep):
        folder.mkdir()
    for path in (private / "p.png", disk / "d.png", deep / "deep.png"):
        cv2.imwrite(str(path), np.full((SIZE, SIZE, 3), 60, np.uint8))
    (place.images / "out").symlink_to(private)
    (place.images / "all").symlink_to("/")
    for folder in (place.images, deep):
        (folder / "p.png").symlink_to(private / "p.png")
        (folder / "d.png").symlink_to(disk / "d.png")  # another folder that its owner allows
    settings = place.settings(mode)
    below = (str(place.images), str(disk))
    source = replace(settings.source, uri=str(place.images / uri), below=below)
    life = Life(replace(settings, source=source), place.model, isolator)
    assert life.run().source_ended
    seen = {record.image_name for record in life.records if record.image_name}
    refused = {skipped.image_name for record in life.records for skipped in record.skipped}
    own = {"": {"a.png", "b.png", "c.png"}, "*/*.png": {"deep.png"}}
    assert seen == {"d.png", *own.get(uri, {"a.png", "b.png", "c.png", "deep.png"})}
    assert refused == {"p.png"}


def test_a_folder_that_became_a_link_out_of_what_is_allowed_is_not_shown(tmp_path: Path) -> None:
    for folder in ("images/cam", "private"):
        (tmp_path / folder).mkdir(parents=True)
    cam, below = tmp_path / "images" / "cam", (str(tmp_path / "images"),)
    assert image_paths(f"{cam}/*.png", below).own == image_paths(str(cam), below).own == (cam,)
    cam.rmdir()
    cam.symlink_to("../private")
    for uri in (str(cam), f"{cam}/*.png", f"{cam}/a.png"):
        assert image_paths(uri, below) == ImagePaths(())


def test_a_link_shows_nothing_of_the_system_and_stops_no_worker(place: Place, isolator: Isolator) -> None:
    """Whoever may put an image into the folder may put a link there."""
    for name, target in {"slash": "/", "etc": "/etc", "run.png": "/run", "shadow.png": "/etc/shadow"}.items():
        (place.images / name).symlink_to(target)
    life = Life(place.settings("container"), place.model, isolator)
    assert life.run().source_ended
    assert [record.image_name for record in life.records if record.image_name] == ["a.png", "b.png", "c.png"]


def test_a_link_does_not_lead_into_what_is_hidden(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    images = root / "images"
    (root / "secrets").mkdir(parents=True)
    images.mkdir()
    elsewhere.mkdir()
    (root / "secrets" / "pw").write_text("hush")
    (elsewhere / "x.png").touch()
    (images / "pw.png").symlink_to(root / "secrets" / "pw")
    (images / "far.png").symlink_to(elsewhere / "x.png")
    paths = image_paths(str(images))
    assert paths.linked == (elsewhere / "x.png", root / "secrets" / "pw")
    view = View(readable=paths.own, linked=paths.linked)
    words = container_arguments((0, 8, 0), Variant(), view, (root,))
    assert str(elsewhere / "x.png") in words
    assert str(images) in words
    assert str(root / "secrets" / "pw") not in words


def test_a_folder_that_became_a_link_shows_nothing_that_is_hidden(tmp_path: Path) -> None:
    disk, root, camera = tmp_path / "disk", tmp_path / "root", tmp_path / "camera"
    for folder in (disk / "secrets", disk / "images"):
        folder.mkdir(parents=True)
    root.symlink_to(disk)  # a root on another disk is no reason
    camera.symlink_to(root / "secrets")
    view = View(readable=(root / "images", camera))
    words = container_arguments((0, 8, 0), Variant(), view, (root,))
    assert str(root / "images") in words
    assert str(camera) not in words
    (disk / "images").rmdir()
    (disk / "images").symlink_to("secrets")
    assert str(root / "images") not in container_arguments((0, 8, 0), Variant(), view, (root,))


def test_a_source_that_needs_more_is_given_it(isolator: Isolator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = pry(isolator, View(devices=("/dev/tty",), network=True), connect=[port], list=["/etc"])
    assert found["connects"] == {str(port): "done"}
    assert "tty" in found["devices"]
    assert "resolv.conf" in found["lists"]["/etc"]


def test_a_folder_of_any_name_can_be_seen(place: Place, tmp_path: Path, isolator: Isolator) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a b\xff\n--x"))
    place = replace(place, images=place.images.rename(odd))
    life = Life(place.settings("container"), place.model, isolator)
    assert life.run().source_ended
    assert len(life.records) == 3


def test_a_package_on_a_path_of_this_folder_is_found(
    isolator: Isolator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "extra.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "own")
    view = View(readable=(tmp_path / "own",))
    isolation = isolator.resolve("container")
    process = isolator.launch(
        [sys.executable, "-P", "-c", "import extra"],
        isolation=isolation,
        name="x",
        memory_bytes=100 * MEBIBYTE,
        environment=child_environment(),
        view=view,
    )
    assert process.stderr.read() == b""
    assert process.wait(30) == 0
    process.close()


# --- how it ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "container"])
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os.abort()", -signal.SIGABRT),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
    ],
)
def test_how_a_process_ended_is_told(isolator: Isolator, mode: IsolationMode, code: str, told: int) -> None:
    process = launch(isolator, "-c", code, mode=mode)
    process.stderr.read()
    assert process.wait(30) == told
    process.close()


@pytest.mark.parametrize("mode", ["none", "container"])
@pytest.mark.parametrize("how", ["kill", "close", "its own pid", "bubblewrap"])
def test_a_process_that_is_ended_is_gone_with_all_that_it_started(
    isolator: Isolator, mode: IsolationMode, how: str
) -> None:
    code = "import os, subprocess; subprocess.Popen(['/usr/bin/sleep', '600']); os.write(2, b'up\\n'); input()"
    process = launch(isolator, "-c", code, mode=mode, stdin=subprocess.PIPE)
    assert process.stderr.readline() == b"up\n"
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
    assert len(family) == 2
    match how:
        case "kill":
            process.kill()
        case "its own pid":
            os.kill(process.pid, signal.SIGKILL)
        case "bubblewrap" if mode == "container":
            top = next(item for item in psutil.Process().children() if process.pid in pids_below(item))
            assert top.name() == "bwrap"
            top.kill()
        case _:
            process.close()
    assert process.wait(30) == -signal.SIGKILL
    process.close()
    process.close()
    if mode == "none" and isolator.memory_control == "watchdog":
        family.pop().kill()  # what nobody takes along
    wait_until(lambda: not any(map(is_alive, family)), "all of them gone")


def pids_below(process: psutil.Process) -> list[int]:
    return [child.pid for child in process.children(recursive=True)]


CORE = """
import sys, time
from mli.core.isolation.environment import child_environment
from mli.core.isolation.isolator import Isolator

isolator = Isolator()
isolation = isolator.resolve(sys.argv[1])
worker = (
    "import os, time; from mli.core.confinement import die_with_parent;"
    f"die_with_parent({isolation.parent_pid}); os.write(2, b'up\\\\n'); time.sleep(600)"
)
command = [sys.executable, "-c", worker]
process = isolator.launch(
    command, isolation=isolation, name="x", memory_bytes=10**9, environment=child_environment()
)
process.stderr.readline()
print(process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("mode", ["none", "container"])
def test_a_process_ends_with_a_core_that_is_killed(tmp_path: Path, mode: str) -> None:
    core = subprocess.Popen([sys.executable, "-c", CORE, mode], stdout=subprocess.PIPE, cwd=tmp_path)
    assert core.stdout is not None
    worker = psutil.Process(int(core.stdout.readline()))
    assert is_alive(worker)
    core.kill()
    core.wait()
    core.stdout.close()
    wait_until(lambda: not is_alive(worker), "the worker gone")


@pytest.mark.parametrize("mode", ["none", "container"])
def test_what_a_terminal_sends_to_all_does_not_end_a_worker(
    place: Place, isolator: Isolator, mode: IsolationMode
) -> None:
    before = pids_below(psutil.Process())
    life = Life(place.settings(mode), place.model, isolator)
    wait_until(lambda: "python" in psutil.Process(life.worker.pid).name(), "the worker's own process")
    family = [item for item in psutil.Process().children(recursive=True) if item.pid not in before]
    assert len(family) == (1 if mode == "none" else 3)
    for item in family:
        for number in (signal.SIGINT, signal.SIGTERM):
            item.send_signal(number)
    death = life.run()
    assert death.source_ended, death.error


@pytest.mark.parametrize("mode", ["none", "container"])
def test_a_frame_that_never_leaves_native_code_ends_its_worker(
    tmp_path: Path, isolator: Isolator, mode: IsolationMode
) -> None:
    place = make_place(tmp_path / "trap", trap_model)
    cv2.imwrite(str(place.images / "b.png"), np.full((SIZE, SIZE, 3), 255, np.uint8))
    life = Life(place.settings(mode, LimitSettings(frame_timeout_s=1.0)), place.model, isolator)
    worker = psutil.Process(life.worker.pid)
    death = life.run()
    assert death.timed_out
    assert not is_alive(worker)
    assert death.error is not None
    assert "a frame took too long" in death.error.what
    assert "limits.frame_timeout" in str(death.error.remedy)
    (place.images / "b.png").unlink()
    again = Life(place.settings(mode), place.model, isolator)
    assert again.run().source_ended
