"""What a student's process may ask of the kernel, as a seccomp filter in BPF.

What is not listed fails with EPERM: no process or thread is started, no program run, no signal
sent, no socket opened, no file mode changed, no other process traced. The numbers are the
kernel's (arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h).
"""

import struct

SYSCALLS = {  # name: number on x86-64 and on ARM64, None where there is no such call
    "access": (21, None),
    "brk": (12, 214),
    "clock_getres": (229, 114),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "close": (3, 57),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "fcntl": (72, 25),
    "fstat": (5, 80),
    "futex": (202, 98),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "getegid": (108, 177),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getitimer": (36, 102),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "gettid": (186, 178),
    "gettimeofday": (96, 169),
    "getuid": (102, 174),
    "ioctl": (16, 29),
    "lseek": (8, 62),
    "lstat": (6, None),
    "madvise": (28, 233),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "nanosleep": (35, 101),
    "newfstatat": (262, 79),
    "open": (2, None),
    "openat": (257, 56),
    "poll": (7, None),
    "ppoll": (271, 73),
    "pread64": (17, 67),
    "prlimit64": (302, 261),
    "pselect6": (270, 72),
    "read": (0, 63),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "readv": (19, 65),
    "restart_syscall": (219, 128),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_getaffinity": (204, 123),
    "sched_yield": (24, 124),
    "select": (23, None),
    "setitimer": (38, 103),
    "sigaltstack": (131, 132),
    "stat": (4, None),
    "statx": (332, 291),
    "sysinfo": (99, 179),
    "time": (201, None),
    "times": (100, 153),
    "uname": (63, 160),
    "write": (1, 64),
    "writev": (20, 66),
}
ONLY = {  # the argument that is looked at, and the values that it may have
    # Its own limits, which can only be lowered. Those of another process would end it.
    "prlimit64": (0, (0,)),
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC. F_SETOWN and F_SETSIG send signals.
    "fcntl": (1, (0, 1, 2, 3, 1030)),
    # TCGETS, TIOCGWINSZ, FIONCLEX, FIOCLEX: what Python asks of a file that it opens.
    "ioctl": (1, (0x5401, 0x5413, 0x5450, 0x5451)),
}
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH_...

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, ARCH, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
ALLOW, DENY, KILL = 0x7FFF0000, 0x00050001, 0x80000000  # DENY is errno 1, EPERM


def program(machine: str) -> bytes:
    """Return the filter for `machine`, as `platform.machine` calls it.

    Raises:
        KeyError: the numbers of its system calls are not known here.
    """
    column, arch = MACHINES[machine]
    code = [
        (LOAD, 0, 0, ARCH),
        (EQUAL, 1, 0, arch),
        (RETURN, 0, 0, KILL),  # of another architecture, whose numbers mean other calls
        (LOAD, 0, 0, NUMBER),
    ]
    for name, numbers in SYSCALLS.items():
        if numbers[column] is None:
            continue
        argument, values = ONLY.get(name, (0, ()))
        # The kernel takes these arguments as 32 bits, so the lower half is all there is to see.
        block = [(LOAD, 0, 0, ARGUMENTS + 8 * argument)] if values else [(RETURN, 0, 0, ALLOW)]
        for value in values:
            block += [(EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
        block += [(RETURN, 0, 0, DENY)] if values else []
        code += [(EQUAL, 0, len(block), numbers[column]), *block]
    code.append((RETURN, 0, 0, DENY))
    return b"".join(struct.pack("<HBBI", *each) for each in code)
