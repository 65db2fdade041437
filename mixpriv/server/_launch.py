"""Become another program that the kernel kills when our parent dies: ``python _launch.py PARENT_PID PROGRAM ...``."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):  # else it died before it could be watched
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is wanted
