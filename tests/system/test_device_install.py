"""From an empty machine to a running core, on a real systemd: users, rights, units, and an old Greengrass."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.booted_system import PYTHON, BootedSystem
from tests.fixtures.brokers import Certificates, Mosquitto, wait_until
from tests.fixtures.color_model import color_archive, color_model, numbered_images
from tests.fixtures.device_files import make_device_files

from mli.core.bundle_request import BundleRequest
from mli.core.device_bundle import write_bundle

ROOT = Path("/var/lib/mli")
READY = "have mli.service start at boot", "start mli.service, and wait until it is ready"


def bundle(system: BootedSystem, *, trust: bool = False, root: Path = ROOT) -> None:
    """A device's folder, unzipped in ``root`` of the system."""
    made_in = system.path("/root/files")
    made_in.mkdir(exist_ok=True)
    files = make_device_files(made_in)
    request = BundleRequest(
        *("press-4", "localhost", files.cert, files.key, files.ca), port=1, trust=(files.deployer,) if trust else ()
    )
    write_bundle(request, system.path("/root/greengrass-setup.zip"), overwrite=True)
    system.run("unzip", "-qo", "/root/greengrass-setup.zip", "-d", root)


def use_trial(system: BootedSystem, *more: str) -> None:
    """Run the trial in place of the core, with all that the unit says else."""
    color_model(system.path("/opt/model.onnx"))
    system.path("/opt/model.onnx").chmod(0o644)
    command = [PYTHON, "-I", "/opt/checkout/tests/system/trial_service.py", f"{ROOT}/trial.json", "/opt/model.onnx"]
    drop_in(system, f"ExecStart=\nExecStart={shlex.join([*command, *more])}")


def drop_in(system: BootedSystem, lines: str) -> None:
    folder = system.path("/etc/systemd/system/mli.service.d")
    folder.mkdir(exist_ok=True)
    number = len(list(folder.iterdir()))
    (folder / f"{number}.conf").write_text(f"[Service]\n{lines}\n")
    system.run("systemctl", "daemon-reload")


def shown(system: BootedSystem, name: str, unit: str = "mli.service") -> str:
    return system.run("systemctl", "show", unit, f"--property={name}", "--value").stdout.strip()


def steps(system: BootedSystem, *arguments: object) -> dict[str, tuple[str, list[str]]]:
    """What an installation said of each step: its state, and its texts."""
    done = system.mli("device", "install", *arguments, "--json")
    return {step["step"]: (step["state"], step["texts"]) for step in json.loads(done.stdout)["steps"]}


def owners(system: BootedSystem, root: Path = ROOT) -> dict[str, str]:
    """``user:group mode`` of everything in a folder."""
    lines = system.run("find", root, "-printf", "%P\\t%u:%g %m\\n").stdout.splitlines()
    return dict(line.split("\t") for line in lines)


def passwd(system: BootedSystem) -> list[str]:
    return system.path("/etc/passwd").read_text().splitlines()


# --- the way -------------------------------------------------------------------------------------------------------


def test_unzip_install_done(
    system: BootedSystem,
    certificates: Certificates,
    make_mosquitto: Callable[..., Mosquitto],
    tmp_path: Path,
) -> None:
    broker = make_mosquitto(certificates=certificates)
    for path in (certificates.client, certificates.client_key, certificates.ca):
        system.path(f"/root/{path.name}").write_bytes(path.read_bytes())
    names = ["--cert", "/root/client.pem", "--key", "/root/client.key", "--ca", "/root/ca.pem"]
    where = ["--endpoint", "localhost", "--port", broker.port, "-o", "/root/greengrass-setup.zip"]
    system.mli("device", "bundle", "--thing", "press-4", *names, *where)
    system.run("unzip", "-q", "/root/greengrass-setup.zip", "-d", ROOT)
    listening = broker.subscribe("mli/status/press-4", 1)

    looked = steps(system, "--dry-run")
    assert {said for said, _ in looked.values()} == {"unchanged", "planned"}
    assert looked["access"] == ("planned", ["try as mli to import mli, to read the configuration and to write"])
    assert not system.path("/etc/systemd/system/mli.service").exists()
    first = steps(system)
    assert first["service"] == ("done", list(READY))
    assert {name for name, (state, _) in first.items() if state == "done"} == {"user", "folder", "unit", "service"}

    output, _ = listening.communicate(timeout=60)
    assert '"state":"online"' in output.replace(" ", "")
    assert shown(system, "ActiveState") == "active"
    assert shown(system, "UnitFileState") == "enabled"
    assert "connected" in system.mli("core", "status").stdout

    again = system.mli("device", "install").stdout
    assert again.startswith("fine    system ")
    assert "nothing had to be changed; press-4 runs from /var/lib/mli" in again
    assert shown(system, "NRestarts") == "0"

    archive = color_archive(tmp_path)
    images = system.path(ROOT / "images")
    numbered_images(images, 3)
    (images / archive.name).write_bytes(archive.read_bytes())
    system.run("chmod", "-R", "a+rX", ROOT / "images")
    predictions = broker.subscribe("mli/predictions/press-4", 3)
    publish(
        broker, certificates, DEPLOYMENT.format(archive=archive.name, sha256=sha256(archive.read_bytes()).hexdigest())
    )
    output, _ = predictions.communicate(timeout=60)
    assert output.count('"prediction": "') == 3
    status = json.loads(system.mli("core", "status", "--json").stdout)
    (pipeline,) = status["pipelines"]
    assert (pipeline["isolation"], pipeline["why_not_isolated"]) == ("container", None)
    assert pipeline["memory"]["control"] == memory_control(system)


DEPLOYMENT = """
revision: 1
models: {{color: {{uri: "file:///var/lib/mli/images/{archive}", sha256: {sha256}}}}}
pipelines: {{main: {{source: {{kind: images, uri: "/var/lib/mli/images/*.png", interval: 200ms}}, model: color}}}}
"""


def publish(broker: Mosquitto, certificates: Certificates, deployment: str) -> None:
    tls = ["--cafile", certificates.ca, "--cert", certificates.client, "--key", certificates.client_key]
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", broker.port, "-q", 1, "-r", *tls]
    subprocess.run(
        [*map(str, command), "-t", "mli/deployments/press-4", "-s"], input=deployment, text=True, check=True
    )


def memory_control(system: BootedSystem) -> str:
    """What can hold the memory of workers there."""
    if system.path("/sys/fs/cgroup/memory").is_dir():
        return "cgroup v1"
    controllers = system.run("cat", "/sys/fs/cgroup/cgroup.controllers").stdout.split()
    return "cgroup v2" if "memory" in controllers else "watchdog"


def test_the_service_owns_what_it_must_and_nothing_more(system: BootedSystem) -> None:
    bundle(system)
    system.shell("mkdir /var/lib/mli/secrets /var/lib/mli/images; echo s > /var/lib/mli/secrets/password")
    system.shell("cd /var/lib/mli; mkdir -p models/abc ggc; touch models/abc/m.onnx spool.db ggc/x images/a.png")
    system.shell("chmod 666 /var/lib/mli/spool.db; ln -s /etc/shadow /var/lib/mli/models/link")
    system.mli("device", "install")
    use_trial(system)
    system.run("systemctl", "restart", "mli")
    found = owners(system)
    wanted = {
        "": "mli:mli 751",
        "config": "root:mli 750",
        "config/config.json": "root:mli 640",
        "certs": "root:mli 750",
        "certs/root.ca.pem": "root:mli 640",
        "certs/thing.cert.pem": "root:mli 640",
        "certs/thing.private.key": "mli:mli 400",
        "secrets": "root:mli 750",
        "secrets/password": "mli:mli 400",
        "models/abc/m.onnx": "mli:mli 600",
        "models/link": "root:root 777",
        "spool.db": "mli:mli 600",
        "ggc/x": "root:root 644",
        "images/a.png": "root:root 644",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert system.run("stat", "-c", "%U %a", "/etc/shadow").stdout.strip() == "root 640"


@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_inside_the_unit_models_run_and_little_else_can_be_done(system: BootedSystem, isolation: str) -> None:
    bundle(system, trust=True)
    system.mli("device", "install", "--isolation", isolation)
    use_trial(system)
    system.run("systemctl", "restart", "mli")
    assert shown(system, "StatusText") == "tried everything"
    found: dict[str, Any] = json.loads(system.path(f"{ROOT}/trial.json").read_text())
    assert sum(found["inference"]) == pytest.approx(1.0)
    assert found["container"]["kind"] == ("container" if isolation == "auto" else "none"), found["container"]
    assert found["container"]["memory"] == memory_control(system)
    assert found["psutil"] is True
    assert found["state"] == "written"
    assert found["key"] == "-----BEGIN"
    assert found["home"].startswith("PermissionError")
    for refused in ("new certificate", "device.yaml", "system"):
        assert found[refused].startswith("OSError: [Errno 30] Read-only file system"), refused
    assert found["config away"].startswith("OSError: [Errno 16] Device or resource busy")
    assert found["clock"].startswith("PermissionError")
    assert found["other processes"] == 0
    assert found["devices"] == ["null", "urandom"]
    assert found["rights"] == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    assert found["environment"] == []


def test_a_core_that_dies_or_hangs_is_started_again(system: BootedSystem) -> None:
    bundle(system)
    system.mli("device", "install")
    use_trial(system)
    drop_in(system, "RestartSec=100ms\nWatchdogSec=2s")
    system.run("systemctl", "restart", "mli")
    first = shown(system, "MainPID")
    system.run("kill", "-9", first)
    wait_until(lambda: shown(system, "NRestarts") == "1" and shown(system, "SubState") == "running", "a new core")
    fed: set[str] = set()

    def was_fed() -> bool:
        fed.add(shown(system, "WatchdogTimestampMonotonic"))
        return len(fed) > 3

    wait_until(was_fed, "the watchdog fed")
    assert shown(system, "NRestarts") == "1"

    use_trial(system, "silent")
    system.run("systemctl", "restart", "mli")
    restarts = int(shown(system, "NRestarts"))
    wait_until(lambda: int(shown(system, "NRestarts")) > restarts, "a silent core started again")
    assert "Watchdog timeout" in system.run("journalctl", "--no-pager", "-u", "mli").stdout


def test_a_folder_with_any_name_and_a_user_with_another(system: BootedSystem) -> None:
    root = Path("/srv/a b/100% of $HOME; 'x' \"y\"\\é")
    system.run("mkdir", "-p", root)
    bundle(system, root=root)
    made = steps(system, "--root", root, "--user", "press")
    assert made["service"][0] == "done"
    assert shown(system, "User") == "press"
    assert owners(system, root)["certs/thing.private.key"] == "press:press 400"
    assert system.path(root / "log" / "system" / "runtime.log").exists()
    gone = steps(system, "--uninstall")
    assert [state for state, _ in gone.values()] == ["unchanged", "done", "done", "done", "done"]
    assert set(owners(system, root).values()) == {
        value for value in owners(system, root).values() if "root:" in value
    }


def test_uninstall_leaves_nothing_but_the_folder(system: BootedSystem) -> None:
    bundle(system)
    before = passwd(system)
    system.mli("device", "install")
    out = system.mli("device", "install", "--uninstall").stdout
    assert "remove the user mli" in out
    assert passwd(system) == before
    assert not system.path("/etc/systemd/system/mli.service").exists()
    assert shown(system, "LoadState") == "not-found"
    assert {value.split()[0] for value in owners(system).values()} == {"root:root"}
    assert "nothing had to be changed" in system.mli("device", "install", "--uninstall").stdout


def test_new_certificates_and_other_options_restart_the_service(system: BootedSystem) -> None:
    bundle(system)
    system.mli("device", "install")
    first = shown(system, "MainPID")
    bundle(system)  # unpacked over it, by root
    again = steps(system)
    assert {name for name, (state, _) in again.items() if state == "done"} == {"folder", "service"}
    second = shown(system, "MainPID")
    assert second != first
    again = steps(system, "--isolation", "none")
    assert {name for name, (state, _) in again.items() if state == "done"} == {"unit", "service"}
    assert shown(system, "MainPID") != second


def test_a_camera_can_be_opened_by_its_group(system: BootedSystem) -> None:
    """There is no camera here: a file for the group video stands for what its device node says."""
    bundle(system)
    system.shell("echo frame > /srv/video; chgrp video /srv/video; chmod 640 /srv/video")
    system.mli("device", "install", "--camera")
    drop_in(system, "Type=exec\nExecStart=\nExecStart=/bin/sh -c 'cat /srv/video; ls /dev; exec sleep 1000'")
    system.run("systemctl", "restart", "mli")
    wait_until(lambda: "loop-control" in journal(system), "the devices listed")
    assert "frame" in journal(system)
    assert shown(system, "DevicePolicy") == "closed"
    assert "video4linux rw" in shown(system, "DeviceAllow")


def journal(system: BootedSystem) -> str:
    return system.run("journalctl", "--no-pager", "--output=cat", "--unit=mli").stdout


# --- an old Greengrass ----------------------------------------------------------------------------------------------

DAEMON = "/greengrass/ggc/packages/1.11.6/bin/daemon"
UNIT = """
[Unit]
Description=Greengrass Daemon
[Service]
Type=forking
PIDFile=/run/greengrassd.pid
Restart=always
ExecStart=/greengrass/ggc/core/greengrassd start
ExecStop=/greengrass/ggc/core/greengrassd stop
[Install]
WantedBy=multi-user.target
"""
SCRIPT = f"""#!/bin/sh
### BEGIN INIT INFO
# Provides: greengrassd
# Required-Start: $local_fs
# Required-Stop: $local_fs
# Default-Start: 2 3 4 5
# Default-Stop: 0 1 6
### END INIT INFO
case "$1" in
start) setsid {DAEMON} 100000 </dev/null >/dev/null 2>&1 & echo $! > /run/greengrassd.pid ;;
stop) kill "$(cat /run/greengrassd.pid)"; rm /run/greengrassd.pid ;;
esac
"""


def old_greengrass(system: BootedSystem, thing: str = "press-4") -> None:
    """The accelerator's Greengrass Core V1, as far as a service manager can see."""
    system.shell(f"mkdir -p $(dirname {DAEMON}) /greengrass/ggc/core /greengrass/config; cp /bin/sleep {DAEMON}")
    script = system.path("/greengrass/ggc/core/greengrassd")
    script.write_text(SCRIPT)
    script.chmod(0o755)
    arn = f"arn:aws:iot:eu-west-1:123456789012:thing/{thing}"
    system.path("/greengrass/config/config.json").write_text(json.dumps({"coreThing": {"thingArn": arn}}))


def daemons(system: BootedSystem) -> int:
    return len(system.run("pgrep", "-f", DAEMON, check=False).stdout.split())


def test_its_unit_is_stopped_and_disabled(system: BootedSystem) -> None:
    bundle(system)
    old_greengrass(system)
    system.path("/etc/systemd/system/greengrass.service").write_text(UNIT)
    system.run("systemctl", "enable", "--now", "greengrass")
    wait_until(lambda: daemons(system) == 1, "the old daemon")
    assert steps(system)["greengrass"] == (
        "done",
        ["stop greengrass.service, the old Greengrass", "keep greengrass.service from starting at boot"],
    )
    assert daemons(system) == 0
    assert shown(system, "UnitFileState", "greengrass.service") == "disabled"


@pytest.mark.parametrize("disabler", ["there", "missing"])
def test_its_init_script_is_stopped_and_disabled(system: BootedSystem, disabler: str) -> None:
    bundle(system)
    old_greengrass(system)
    system.shell("cp /greengrass/ggc/core/greengrassd /etc/init.d/; update-rc.d greengrassd defaults")
    system.shell("systemctl daemon-reload; systemctl start greengrassd")
    if disabler == "missing":
        system.shell("rm -f /lib/systemd/systemd-sysv-install /usr/lib/systemd/systemd-sysv-install")
    wait_until(lambda: daemons(system) == 1, "the old daemon")
    assert steps(system)["greengrass"][0] == "done"
    assert daemons(system) == 0
    system.run("systemctl", "daemon-reload")
    wanted = system.run("systemctl", "list-dependencies", "--plain", "multi-user.target").stdout
    assert "greengrassd.service" not in wanted or shown(system, "LoadState", "greengrassd.service") == "masked"
    assert steps(system)["greengrass"][0] == "unchanged"


def test_one_that_was_started_by_hand_is_ended(system: BootedSystem) -> None:
    bundle(system)
    old_greengrass(system)
    system.run("/greengrass/ggc/core/greengrassd", "start")
    wait_until(lambda: daemons(system) == 1, "the old daemon")
    (text,) = steps(system)["greengrass"][1]
    assert text.startswith("end the Greengrass that was started by hand (process ")
    assert daemons(system) == 0


def test_that_of_another_thing_stays_and_is_told_of(system: BootedSystem) -> None:
    bundle(system)
    old_greengrass(system, thing="other")
    system.path("/etc/systemd/system/greengrass.service").write_text(UNIT)
    system.run("systemctl", "enable", "--now", "greengrass")
    done = system.mli("device", "install")
    assert "greengrass.service stays: it is of another thing (other)" in done.stderr
    assert daemons(system) == 1


@pytest.mark.parametrize("thing", ["press-4", "other"])
def test_version_2_stays_but_not_as_the_same_thing(system: BootedSystem, thing: str) -> None:
    bundle(system)
    loader = system.path("/greengrass/v2/alts/current/distro/bin/loader")
    loader.parent.mkdir(parents=True)
    loader.write_text("#!/bin/sh\nexec sleep 100000\n")
    loader.chmod(0o755)
    unit = "[Service]\nExecStart=/greengrass/v2/alts/current/distro/bin/loader\n"
    system.path("/etc/systemd/system/greengrass.service").write_text(unit)
    (system.path("/greengrass/v2") / "config").mkdir()
    config = f'---\nsystem:\n  certificateFilePath: "x"\n  thingName: "{thing}"\n'
    system.path("/greengrass/v2/config/effectiveConfig.yaml").write_text(config)
    system.run("systemctl", "start", "greengrass")
    done = system.mli("device", "install", check=False)
    assert shown(system, "ActiveState", "greengrass.service") == "active"
    if thing == "press-4":
        assert done.returncode == 1
        assert "Greengrass V2 runs here as the thing press-4" in done.stderr
        assert not system.path("/etc/systemd/system/mli.service").exists()
    else:
        assert done.returncode == 0
        assert "greengrass.service is Greengrass V2 and stays" in done.stderr


# --- what cannot be -------------------------------------------------------------------------------------------------


def refused(system: BootedSystem, *arguments: object, code: int = 1) -> str:
    done = system.mli("device", "install", *arguments, check=False)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    assert not system.path("/etc/systemd/system/mli.service.d").exists()
    return done.stderr


def test_an_environment_that_only_root_may_read_is_told_before_anything_stops(system: BootedSystem) -> None:
    bundle(system)
    old_greengrass(system)
    system.run("/greengrass/ggc/core/greengrassd", "start")
    system.run("chmod", "700", "/opt/mli")
    said = refused(system)
    assert "the user mli cannot import mli" in said
    assert "python3 -m venv /opt/mli" in said
    assert daemons(system) == 1
    system.run("chmod", "755", "/opt/mli")
    assert steps(system)["service"][0] == "done"


def test_an_environment_or_a_folder_that_the_unit_hides_is_told(system: BootedSystem) -> None:
    system.shell("mkdir -p /home/pi/venv; cp -a /opt/mli/. /home/pi/venv; mkdir /home/pi/root")
    bundle(system)
    done = system.run("/home/pi/venv/bin/python", "-I", "-m", "mli", "device", "install", check=False)
    assert done.returncode == 1
    assert "mli's Python is below /home, where a service sees nothing" in done.stderr
    bundle(system, root=Path("/home/pi/root"))
    assert "the device's folder is below /home" in refused(system, "--root", "/home/pi/root")


def test_the_users_that_no_service_may_be_are_told(system: BootedSystem) -> None:
    bundle(system)
    system.shell("useradd --shell /bin/bash anna; useradd --system --shell /usr/sbin/nologin --gid anna guest")
    assert "the user anna can log in" in refused(system, "--user", "anna", code=2)
    assert "has others in it" in refused(system, "--user", "guest", code=2)
    assert "never runs as root" in refused(system, "--user", "root", code=2)
    assert "this is no name of a user" in refused(system, "--user", "-x", code=2)


def test_somebody_else_than_root_is_told_and_may_look(system: BootedSystem) -> None:
    bundle(system)
    system.shell("useradd --system looker; cp -r /var/lib/mli /srv/looked; chown -R looker /srv/looked")
    words = ["setpriv", "--reuid=looker", "--regid=looker", "--clear-groups", PYTHON, "-I", "-m", "mli", "device"]
    done = system.run(*words, "install", "--root", "/srv/looked", check=False)
    assert done.returncode == 1
    assert "only root can make a service" in done.stderr
    done = system.run(*words, "install", "--root", "/srv/looked", "--dry-run", check=False)
    assert done.returncode == 1
    assert "would   unit        write /etc/systemd/system/mli.service" in done.stdout


def test_a_folder_that_holds_no_device_is_told(system: BootedSystem) -> None:
    assert "there is no device's folder at the usual places" in refused(system, code=2)
    system.run("mkdir", "/srv/empty")
    assert "the folder holds no device" in refused(system, "--root", "/srv/empty", code=2)
    assert "this folder can be no device's" in refused(system, "--root", "/etc", code=2)


def test_a_unit_without_containers_is_not_made_for_a_device_that_demands_them(system: BootedSystem) -> None:
    bundle(system)
    system.path(f"{ROOT}/device.yaml").write_text("min_isolation: container\n")
    assert "lets nothing run without a container" in refused(system, "--isolation", "none", code=2)


def test_a_unit_of_somebody_else_stays(system: BootedSystem) -> None:
    bundle(system)
    unit = system.path("/etc/systemd/system/mli.service")
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert "mli did not write it" in refused(system, code=2)
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"


def test_a_key_with_a_second_name_is_given_to_nobody(system: BootedSystem) -> None:
    bundle(system)
    system.run("ln", f"{ROOT}/certs/thing.private.key", "/root/backup.key")
    assert "a file has a second name" in refused(system)
    assert system.path("/root/backup.key").stat().st_uid == 0


def test_a_core_that_does_not_start_is_told_with_its_log(system: BootedSystem) -> None:
    bundle(system)
    system.path(f"{ROOT}/device.yaml").write_text("spool: {max_size: 100 MB of disk}\n")
    said = refused(system, code=2)
    assert "device.yaml" in said
    system.path(f"{ROOT}/device.yaml").unlink()
    system.run("mkdir", "/etc/systemd/system/mli.service.d")
    broken = f"[Service]\nExecStart=\nExecStart={PYTHON} -I -c 'raise SystemExit(\"the sky fell\")'\n"
    system.path("/etc/systemd/system/mli.service.d/broken.conf").write_text(broken)
    done = system.mli("device", "install", check=False)
    assert done.returncode == 1
    assert "mli.service did not become ready" in done.stderr
    assert "the sky fell" in done.stderr
