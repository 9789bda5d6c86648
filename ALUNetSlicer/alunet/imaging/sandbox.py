"""Sandbox for a process: afterwards it can use only what it has open and the files it was given.

Linux alone has the means. Landlock forbids all files but those named, all writing, and TCP; seccomp
forbids new programs, new processes, the network and looking into other processes; limits bound
memory and time. `shut_in` uses what the system has.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from alunet.imaging.limits import memory_for, seconds_for

LINUX = sys.platform == "linux"

_NO_NEW_PRIVILEGES, _PARENT_DEATH, _SECCOMP = 38, 1, 22  # of prctl
_MOST_WRITTEN = 1 << 30  # bytes of a file in memory; no other file can be written

# --- Landlock -------------------------------------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # ABI -> rights on files that it knows
_NET, _SCOPES = 0b11, 0b11  # bind and connect (from ABI 4); abstract sockets and signals (from 6)


def landlock_version() -> int:
    """Return the version of Landlock that the system has, 0 where it has none."""
    if not LINUX:
        return 0
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _close_files(readable: Iterable[Path]) -> None:
    """Forbid everything that Landlock knows but reading the named files and folders."""
    version, libc = landlock_version(), _libc()
    if not version:
        return
    rights = (1 << _RIGHTS[min(version, max(_RIGHTS))]) - 1
    ruleset = struct.pack("QQQ", rights, _NET, _SCOPES)
    known = 24 if version >= 6 else 16 if version >= 4 else 8
    number = libc.syscall(_CREATE_RULESET, ruleset, ctypes.c_size_t(known), 0)
    if number < 0:
        raise OSError(ctypes.get_errno(), "no Landlock rules can be made")
    for path in readable:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = _READ_FILE | (_READ_FOLDER if path.is_dir() else 0)
        failed = libc.syscall(_ADD_RULE, number, 1, struct.pack("=Qi", allowed, opened), 0)
        os.close(opened)
        if failed:
            raise OSError(ctypes.get_errno(), f"{path} cannot be allowed")
    if libc.syscall(_RESTRICT_SELF, number, 0):
        raise OSError(ctypes.get_errno(), "Landlock cannot be closed")
    os.close(number)


# --- seccomp --------------------------------------------------------------------------------------

# System calls that are forbidden, by their numbers on x86_64 and on aarch64; 0: not there.
_FORBIDDEN = {
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "bind": (49, 200),
    "listen": (50, 201),
    "socketpair": (53, 199),
    "fork": (57, 0),
    "vfork": (58, 0),
    "execve": (59, 221),
    "kill": (62, 129),
    "ptrace": (101, 117),
    "chroot": (161, 51),
    "mount": (165, 40),
    "umount2": (166, 39),
    "init_module": (175, 105),
    "tkill": (200, 130),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "perf_event_open": (298, 241),
    "accept4": (288, 242),
    "open_by_handle_at": (304, 265),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "finit_module": (313, 273),
    "bpf": (321, 280),
    "execveat": (322, 281),
    "userfaultfd": (323, 282),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
}
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH, column above
_CLONE, _CLONE3 = (56, 220), 435
_TGKILL = (234, 131)
_THREAD = 0x10000  # CLONE_THREAD
_ALLOW, _DENY, _UNKNOWN, _KILL = 0x7FFF0000, 0x50001, 0x50026, 0x80000000  # EPERM, ENOSYS
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # places in what the filter sees
_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def _filter(machine: str, process: int) -> list[tuple[int, int, int, int]]:
    """Return the filter as instructions (code, jump if true, jump if false, value)."""
    audited, column = _MACHINES[machine]
    made = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, audited),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, 0x40000000),  # the second set of numbers (x32)
        (_RETURN, 0, 0, _DENY),
        (_EQUAL, 0, 1, _CLONE3),  # its arguments cannot be seen; libraries then use clone
        (_RETURN, 0, 0, _UNKNOWN),
        (_EQUAL, 0, 4, _CLONE[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_HAS_BITS, 0, 1, _THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
        (_EQUAL, 0, 4, _TGKILL[column]),  # a process ends itself with it (abort)
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 0, 1, process),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
    ]
    for numbers in _FORBIDDEN.values():
        if numbers[column]:
            made += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _DENY)]
    return [*made, (_RETURN, 0, 0, _ALLOW)]


def has_seccomp() -> bool:
    """Return whether system calls can be forbidden here."""
    return LINUX and platform.machine() in _MACHINES and Path("/proc/sys/kernel/seccomp").exists()


def _close_calls() -> None:
    """Forbid the system calls of `_FORBIDDEN`."""
    if not has_seccomp():
        return
    program = _filter(platform.machine(), os.getpid())
    packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    about = struct.pack("HP", len(program), ctypes.addressof(packed))
    if _libc().prctl(_SECCOMP, 2, ctypes.c_char_p(about), 0, 0):
        raise OSError(ctypes.get_errno(), "system calls cannot be forbidden")


# --- limits ---------------------------------------------------------------------------------------


class Room:
    """The memory and time that this process may take, which grow with what a file declares.

    Args:
        limit: bytes of voxels, beyond which they never grow.
    """

    def __init__(self, limit: int) -> None:
        self._own = _mapped() if LINUX else 0
        self._limit, self.size, self._files = limit, 0, 1
        if LINUX:
            import resource

            for which, most in (
                (resource.RLIMIT_CORE, 0),
                (resource.RLIMIT_FSIZE, _MOST_WRITTEN),
                (resource.RLIMIT_AS, self._own + memory_for(limit)),
                (resource.RLIMIT_CPU, int(seconds_for(limit)) + 1),
            ):
                hard = resource.getrlimit(which)[1]
                hard = most if hard == resource.RLIM_INFINITY else min(most, hard)
                resource.setrlimit(which, (hard, hard))
            self.allow(0)

    def allow(self, size: int, files: int = 1) -> None:
        """Set memory and time to what an image of `size` bytes of voxels may take, where so many
        files are looked at.
        """
        self.size = max(self.size, min(size, self._limit))
        self._files = max(self._files, files)
        if LINUX:
            import resource

            for which, most in (
                (resource.RLIMIT_AS, self._own + memory_for(self.size)),
                (resource.RLIMIT_CPU, int(seconds_for(self.size, self._files)) + 1),
            ):
                hard = resource.getrlimit(which)[1]
                resource.setrlimit(which, (min(most, hard), hard))


def _mapped() -> int:
    """Return the bytes of address space that this process has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def shut_in(readable: Iterable[Path], limit: int, keep: int) -> Room:
    """Shut this process in for good; what cannot be imported any more must be imported before.

    Args:
        readable: files and folders that it may still read.
        limit: see `Room`.
        keep: the one file descriptor, beside the standard ones, that stays open.

    Raises:
        OSError: the system has the means, but they fail.
    """
    if LINUX:
        _libc().prctl(_PARENT_DEATH, 9, 0, 0, 0)
        os.closerange(3, keep)
        os.closerange(keep + 1, 1 << 16)
        with contextlib.suppress(OSError):
            quiet = os.open(os.devnull, os.O_RDWR)
            for standard in range(3):
                os.dup2(quiet, standard)
            os.close(quiet)
        if _libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "privileges cannot be given up")
    room = Room(limit)
    if LINUX:
        _close_files(readable)
        _close_calls()
    return room
