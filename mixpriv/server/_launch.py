"""Become another program that the kernel kills when our parent dies.

``python _launch.py PARENT_PID GUARD PROGRAM ...`` loads the guard into the program. What it writes is for its
user alone, and it leaves no core, which would hold what was sent.

A child stays to watch: it kills the process group, which must be the program's own, soon after the program is gone.
A model process that is idle then ends by itself, and removes its shared memory; one that computes would wait for ever
for tritonserver to take its answer.
"""

import ctypes
import os
import resource
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
GRACE_S = 5


def watch(program: int) -> None:
    """Wait until our parent, the program, is gone, then kill our process group."""
    os.close(0)  # the program's secrets
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() == program:
        signal.sigwait([signal.SIGUSR1])
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


def become(parent: int, guard: str, command: list[str]) -> None:
    """Become the program; nothing if the parent died before it could be watched."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    itself = os.getpid()
    if os.fork() == 0:
        watch(itself)
    others = os.environ.get("LD_PRELOAD")
    os.environ["LD_PRELOAD"] = f"{guard}:{others}" if others else guard
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


prctl = ctypes.CDLL(None).prctl
if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
