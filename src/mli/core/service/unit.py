"""The systemd unit of the core: a user of its own, a file system that it can only read, and a watchdog.

What it must be able to do is little: read its folder's configuration, write its state, open network connections, and
start its workers. Containers need more than that (namespaces, mounts), so there are two sets of bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

UNIT_NAME = "mli.service"
MARK = "# Written by `mli device install`"
"""The first words of a unit that is ours to replace and to remove."""
_ROOT_MARK = "# Root: "
READ_ONLY = ("config", "certs", "secrets", "device.yaml", "ggc", "ota")
"""What lies in the root but not in the service's hands; the last two are the old Greengrass's own."""
STATE_ROOT = Path("/var/lib/mli")
ROOT_MODE = 0o751
"""The service makes files in its root; others may pass through, to the images for example, but not look around."""
WATCHDOG_S = 60
_GROUPS = Path("/sys/fs/cgroup")
OLD_GROUPS = _GROUPS / "memory"
_BACKOFF_SINCE = 254
"""The first systemd that waits longer after each failure."""


@dataclass(frozen=True, slots=True)
class UnitSettings:
    """What differs from device to device.

    Attributes:
        python: the interpreter that runs the installation, absolute.
        containers: workers may be put into containers; else the unit forbids all that only these need.
        camera: a pipeline opens a camera of this machine.
        old_groups: this machine bounds memory by control groups of version 1, which systemd gives to no other user.
        systemd_version: directives that came later are left out.
    """

    python: str
    root: Path
    user: str = "mli"
    containers: bool = True
    camera: bool = False
    old_groups: bool = False
    systemd_version: int = 0


def unit_text(settings: UnitSettings) -> str:
    """The unit file."""
    return "\n".join(
        [
            f"{MARK}, which writes it again. Changes of your own: systemctl edit mli",
            f"{_ROOT_MARK}{settings.root}",
            *_unit_section(settings),
            "",
            "[Service]",
            *_running(settings),
            "",
            "# What it sees of this machine",
            *_files(settings),
            *_devices(settings),
            "",
            "# What it may do",
            *_bounds(settings),
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def root_and_user(text: str) -> tuple[Path, str] | None:
    """Whose unit it is, from a unit file that ``unit_text`` wrote; None for any other."""
    lines = text.splitlines()
    if not text.startswith(MARK):
        return None
    roots = [line.removeprefix(_ROOT_MARK) for line in lines if line.startswith(_ROOT_MARK)]
    users = [line.removeprefix("User=") for line in lines if line.startswith("User=")]
    return (Path(roots[0]), users[0]) if roots and users else None


def start_arguments(python: str, root: Path) -> list[str]:
    """The command that runs the core, by the unit or by hand."""
    return [python, "-I", "-m", "mli", "core", "start", "--root", str(root)]


def _unit_section(settings: UnitSettings) -> list[str]:
    return [
        "[Unit]",
        "Description=mli, predictions of a model at the edge",
        # Not network-online: without a network the last good deployment runs at once.
        "After=network.target",
        f"RequiresMountsFor={_quoted(settings.root)}",
        # A device in the field never gives up.
        "StartLimitIntervalSec=0",
    ]


def _running(settings: UnitSettings) -> list[str]:
    command = [_quoted_argument(word) for word in start_arguments(settings.python, settings.root)]
    backoff = ["RestartSteps=5", "RestartMaxDelaySec=60"] if settings.systemd_version >= _BACKOFF_SINCE else []
    return [
        "Type=notify",
        "NotifyAccess=main",
        *([_old_group_given(settings.user)] if settings.old_groups else []),
        f"ExecStart={' '.join(command)}",
        f"User={settings.user}",
        f"Group={settings.user}",
        "Restart=always",
        "RestartSec=5",
        *backoff,
        # A wrong file stays wrong; the next install, or a restart by hand, tries again.
        "RestartPreventExitStatus=2",
        f"WatchdogSec={WATCHDOG_S}",
        "TimeoutStartSec=120",
        "TimeoutStopSec=60",
        "KillMode=mixed",
        # A worker that takes too much memory is ended alone.
        "OOMPolicy=continue",
        "Delegate=memory",
        "LimitCORE=0",
        "UMask=0077",
    ]


def _old_group_given(user: str) -> str:
    """Root gives the service its own group, and nothing above it; ``-``: a machine that has moved on needs it not."""
    own = OLD_GROUPS / "system.slice" / UNIT_NAME
    return f"ExecStartPre=-+/bin/chown {user} {own} {own}/cgroup.procs {own}/tasks"


def _files(settings: UnitSettings) -> list[str]:
    """Each read-only entry becomes a mount point, so the service can neither write nor replace it."""
    kept = " ".join(_quoted(settings.root / name, optional=True) for name in READ_ONLY)
    groups = [
        f"-{path}/system.slice/{UNIT_NAME}" for path in (_GROUPS, *([OLD_GROUPS] if settings.old_groups else []))
    ]
    state = ["StateDirectory=mli", f"StateDirectoryMode={ROOT_MODE:04o}"] if settings.root == STATE_ROOT else []
    return [
        *state,
        "ProtectSystem=strict",
        f"ReadWritePaths={_quoted(settings.root)}",
        f"ReadOnlyPaths={kept}",
        # Of the control groups only its own, in which it bounds its workers' memory.
        "ProtectControlGroups=yes",
        f"ReadWritePaths={' '.join(groups)}",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateMounts=yes",
        "PrivateUsers=yes",
        "ProtectProc=invisible",
        "ProtectKernelTunables=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
    ]


def _devices(settings: UnitSettings) -> list[str]:
    if not settings.camera:
        return ["PrivateDevices=yes", "DevicePolicy=closed"]
    return ["DevicePolicy=closed", "DeviceAllow=char-video4linux rw", "SupplementaryGroups=video"]


def _bounds(settings: UnitSettings) -> list[str]:
    """``MemoryDenyWriteExecute`` is not among them: runtimes that compile for this processor cannot live with it."""
    return [
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "RemoveIPC=yes",
        "SystemCallArchitectures=native",
        "SystemCallErrorNumber=EPERM",
        *(_with_containers() if settings.containers else _without_containers()),
    ]


def _with_containers() -> list[str]:
    return [
        "# Containers: namespaces with mounts in them, and a network of their own that is switched on by netlink",
        "RestrictNamespaces=user mnt pid net ipc uts cgroup",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "SystemCallFilter=@system-service mount umount2 pivot_root",
        "SystemCallFilter=~@resources @obsolete",
    ]


def _without_containers() -> list[str]:
    return [
        "RestrictNamespaces=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources @obsolete",
    ]


def _quoted(path: Path, *, optional: bool = False) -> str:
    """A path for a directive that takes several; a ``-`` before it means: if it is there."""
    text = str(path).replace("%", "%%")
    mark = "-" if optional else ""
    return f'"{mark}{_escaped(text)}"' if set(text) & set(" \"'\\\t") else mark + text


def _quoted_argument(word: str) -> str:
    """A word of a command line, where ``$`` means something too."""
    text = word.replace("%", "%%").replace("$", "$$")
    return f'"{_escaped(text)}"' if set(text) & set(" \"'\\\t;") else text


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
