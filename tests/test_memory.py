from __future__ import annotations

import subprocess
import sys

import pytest

_HEAPS = """
import ctypes, sys, threading
from mixpriv.memory import share_one_heap
if sys.argv[1] == "shared":
    share_one_heap()
libc = ctypes.CDLL(None)
together = threading.Barrier(8)

def work():
    address = ctypes.c_void_p(ctypes.CDLL(None).malloc(1000))
    together.wait()

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has heaps by thread")
def test_threads_share_one_heap() -> None:
    heaps = []
    for how in ("own", "shared"):
        done = subprocess.run([sys.executable, "-c", _HEAPS, how], capture_output=True, text=True, check=True)
        if "<heap nr=" not in done.stdout:
            pytest.skip("this C library is not glibc")
        heaps.append(done.stdout.count("<heap nr="))
    assert heaps[0] > 1
    assert heaps[1] == 1
