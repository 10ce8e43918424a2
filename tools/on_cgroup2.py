"""Run a command on a Linux whose control groups are of version 2, where this machine's own are not.

``python tools/on_cgroup2.py COMMAND...``: an emulated computer with Debian's kernel and this machine's files. What it
changes is in its memory and gone with it; it has no network. Needs root, to install the emulator and to unpack a
kernel (about 500 MB on the disk). Everything takes some ten times longer.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = {"qemu-system-x86_64": "qemu-system-x86", "cpio": "cpio", "busybox": "busybox-static"}
MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("netfs", "fscache", "9pnet", "9pnet_virtio", "9p", "overlay"),
)
"""In the order in which they need each other: this machine's files come through them."""
MEMORY_MB = 3072
ENDED = "the command ended with code "
FIRST = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in {modules}; do $b insmod /modules/$module.ko; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro files /lower
$b mount -t tmpfs -o size=50% tmpfs /memory
$b mkdir /memory/changes /memory/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/memory/changes,workdir=/memory/work overlay /root
$b mount -t proc proc /root/proc
$b mount -t sysfs sys /root/sys
$b mount -t devtmpfs dev /root/dev
$b mount -t tmpfs -o mode=755 tmpfs /root/run
$b mount -t tmpfs -o mode=1777 tmpfs /root/tmp
$b cp /second /root/run/second
exec $b switch_root /root /bin/sh /run/second
"""
SECOND = """
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up 2>/dev/null
hostname emulated
# As a service manager would have it: a group of its own, in which nobody else is.
mkdir /sys/fs/cgroup/command
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
cd {folder}
join='echo 0 > /sys/fs/cgroup/command/cgroup.procs; exec "$@"'
env -i PATH={path} HOME=/root LANG=C.UTF-8 sh -c "$join" sh {command}
echo "{ended}$?"
echo o > /proc/sysrq-trigger
while :; do :; done
"""


def main() -> int:
    """Run the command line's command; gives its exit code."""
    command = sys.argv[1:]
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    install()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kernel = find_kernel(folder)
        make_first_files(folder, kernel, command)
        code = None
        with subprocess.Popen(emulator(folder, kernel), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as machine:
            assert machine.stdout is not None
            for raw in machine.stdout:
                line = raw.decode(errors="replace").rstrip()
                if line.startswith(ENDED):
                    code = int(line.removeprefix(ENDED))
                if code is None:
                    print(line, flush=True)
    if code is None:
        print("the emulated computer ended before its command did", file=sys.stderr)
    return 1 if code is None else code


def install() -> None:
    """What the emulation needs, where it is missing."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        options = ["-y", "-qq", "--no-install-recommends"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", *options, *missing], check=True, env=environment, stdout=sys.stderr)


def find_kernel(folder: Path) -> Path:
    """Debian's newest, unpacked and not installed: this machine does not start from it."""
    said = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], check=True, capture_output=True, text=True)
    match = re.search(r"Depends: (linux-image-\d\S+)", said.stdout)
    assert match, said.stdout
    kept = Path.home() / ".cache" / "mli-test-kernel" / match[1]
    if not kept.exists():
        subprocess.run(["apt-get", "download", "-qq", match[1]], check=True, cwd=folder, stderr=subprocess.DEVNULL)
        (package,) = folder.glob("linux-image-*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder / "kernel"], check=True)
        shutil.rmtree(kept.parent, ignore_errors=True)
        kept.parent.mkdir(parents=True)
        shutil.move(folder / "kernel", kept)
    return kept


def make_first_files(folder: Path, kernel: Path, command: list[str]) -> None:
    """What the kernel finds in its memory when it starts."""
    start = folder / "start"
    for name in ("bin", "modules", "proc", "dev", "lower", "memory", "root"):
        (start / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, start / "bin" / "busybox")
    for name in MODULES:
        (module,) = (kernel / "lib" / "modules").rglob(f"{name}.ko")
        shutil.copy(module, start / "modules")
    (start / "init").write_text(FIRST.format(modules=" ".join(MODULES)))
    (start / "init").chmod(0o755)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    second = SECOND.format(folder=shlex.quote(str(Path.cwd())), path=path, command=shlex.join(command), ended=ENDED)
    (start / "second").write_text(second)
    names = "\n".join(str(found.relative_to(start)) for found in sorted(start.rglob("*")))
    with (folder / "start.cpio").open("wb") as file:
        pack = ["cpio", "--quiet", "-o", "-H", "newc"]
        subprocess.run(pack, check=True, cwd=start, input=names.encode(), stdout=file)


def emulator(folder: Path, kernel: Path) -> list[str]:
    """The command line of the machine."""
    (image,) = (kernel / "boot").glob("vmlinuz-*")
    files = "local,path=/,mount_tag=files,security_model=none,readonly=on,multidevs=remap"
    return [
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MB)),
        *("-nographic", "-no-reboot", "-nic", "none", "-virtfs", files),
        *("-kernel", str(image), "-initrd", str(folder / "start.cpio")),
        *("-append", "console=ttyS0 quiet loglevel=1 panic=-1"),
    ]


if __name__ == "__main__":
    sys.exit(main())
