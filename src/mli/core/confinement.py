"""What a process gives up for good before it reads somebody else's bytes: other programs, the network, more memory.

The system calls are refused by a seccomp filter, a small program that the kernel runs before each call (Linux 3.5 and
later; man 2 seccomp). Refused is what a job never needs: a list, so that a new kernel or library keeps working.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
from collections.abc import Collection

_SYSCALLS: dict[str, tuple[int | None, int | None]] = {
    # The network, and sockets of this device
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    # Other programs and processes
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    # Parts of the kernel with a long record of holes
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    # Namespaces and mounts
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # What only an administrator may do, should a device run mli as one
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setgroups": (116, 159),
    "capset": (126, 91),
    "personality": (135, 92),
    "setrlimit": (160, 164),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
}
"""Name → its number on x86_64 and on aarch64; None where the processor has no such call."""
_CLONE, _CLONE3, _PRCTL, _PRLIMIT, _TGKILL = (56, 220), (435, 435), (157, 167), (302, 261), (234, 131)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine → its column above, and the kernel's word for it (AUDIT_ARCH)."""
_X32_NUMBERS = 0x4000_0000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _FAIL = 0x7FFF_0000, 0x0005_0000
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_CLONE_THREAD = 0x10000
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_MODE_FILTER = 2

_Instruction = tuple[int, int, int, int]
"""Operation, instructions to skip if true, if false, and the operand."""
_REFUSE: _Instruction = (_RETURN, 0, 0, _FAIL | errno.EPERM)
_PASS: _Instruction = (_RETURN, 0, 0, _ALLOW)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def die_with_parent(parent: int) -> None:
    """Where the system can (Linux), be killed with ``parent``, even while stuck in a library call."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # it died before the line above


def limit_resources(*, data_bytes: int, cpu_s: float, file_bytes: int) -> None:
    """Bound this process; what is over a bound fails, or ends it.

    Args:
        data_bytes: private memory that it may ask for, used or not; macOS does not keep to it.
        cpu_s: of all of its threads together.
        file_bytes: of each file that it writes.
    """
    cpu = max(1, round(cpu_s))
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, file_bytes)
    _lower(resource.RLIMIT_CPU, cpu, cpu + 5)
    _lower(resource.RLIMIT_DATA, data_bytes)


def refuse_system_calls(keep: Collection[str] = ()) -> bool:
    """Make the calls named above fail with EPERM from now on, in this thread and all that it starts.

    Args:
        keep: those of them that stay allowed.

    Returns:
        False where the system has no such filter: this process then keeps its network.
    """
    machine = _MACHINES.get(os.uname().machine)
    if not sys.platform.startswith("linux") or machine is None or sys.maxsize < 2**32:
        return False
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in _filter(*machine, os.getpid(), keep))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    program = _Program(len(code) // 8, code)
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _lower(kind: int, soft: int, hard: int | None = None) -> None:
    _, allowed = resource.getrlimit(kind)
    wanted = [soft, soft if hard is None else hard]
    if allowed != resource.RLIM_INFINITY:
        wanted = [min(value, allowed) for value in wanted]
    resource.setrlimit(kind, (wanted[0], wanted[1]))


def _filter(column: int, machine: int, pid: int, keep: Collection[str]) -> list[_Instruction]:
    program = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_EQUAL, 1, 0, machine),  # another machine's numbers (32-bit programs) mean other calls
        _REFUSE,
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32_NUMBERS),
        _REFUSE,
    ]
    for name, numbers in _SYSCALLS.items():
        number = numbers[column]
        if number is not None and name not in keep:
            program += [(_EQUAL, 0, 1, number), _REFUSE]
    # The C library then starts its threads with clone, whose flags can be read here.
    program += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _FAIL | errno.ENOSYS)]
    program += _when(_CLONE[column], [_argument(0), (_ANY_BIT, 1, 0, _CLONE_THREAD), _REFUSE])
    program += _when(_PRCTL[column], [_argument(0), (_EQUAL, 0, 1, _PR_SET_PDEATHSIG), _REFUSE])
    program += _when(_TGKILL[column], [_argument(0), (_EQUAL, 1, 0, pid), _REFUSE])  # abort() is fine
    reads_only = [_argument(2), (_EQUAL, 0, 2, 0), _argument(2, high=True), (_EQUAL, 1, 0, 0), _REFUSE]
    program += _when(_PRLIMIT[column], reads_only)
    return [*program, _PASS]


def _when(number: int, check: list[_Instruction]) -> list[_Instruction]:
    """Instructions for one call: it passes unless ``check``, which ends with a refusal, comes to that."""
    return [(_EQUAL, 0, len(check) + 1, number), *check, _PASS]


def _argument(index: int, *, high: bool = False) -> _Instruction:
    """Load half of an argument of the call; both machines are little-endian."""
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index + (4 if high else 0))
