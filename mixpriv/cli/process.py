"""A command as a process: how it is stopped, how it ends, and what it tells of an error."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType

from mixpriv.cli.terminal import LONGEST_LINE, complain, flush, open_streams
from mixpriv.errors import InputError, MixprivError, OutputError, printable
from mixpriv.memory import CLIENT_MIB, lack_of_memory, memory_limit

EXIT_BUG = 1
EXIT_SIGNAL = 128
"""A command that a signal ends has this and the signal's number as its exit code: 130 for Ctrl-C."""

_TRACEBACK = "MIXPRIV_TRACEBACK"
_ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU") if hasattr(signal, name)]
_SAME_END_S = 3.0
"""Signals so soon after the first belong to the same end: a terminal that is closed, or a service, sends several."""

_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EAGAIN)
_SURROUNDINGS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENAMETOOLONG,
                 errno.ELOOP, errno.ESTALE, errno.EFBIG, errno.EPIPE)  # fmt: skip
_EXTRAS = {
    "bids": ("jinja2",),
    "server": ("cryptography", "envoy", "pytriton", "tritonserver"),
    "train": ("matplotlib", "monai", "onnx", "onnxruntime", "onnxscript", "torch"),
    "gpu": ("cuda", "tensorrt", "tensorrt_bindings"),
}
"""Packages that are there only with an extra, by that extra."""

_NO_MEMORY = (
    "bad_alloc",
    "ailed to allocate",
    "nable to allocate",
    "annot allocate",
    "out of memory",
    "map segment from shared object",
    "Cannot create thread",
)
"""Words by which libraries tell that they lack memory, in whatever exception."""

_NEARLY_ALL = 0.8
"""The share of a memory limit from which libraries fail in odd ways that name no memory."""


def run(program: str, command: Callable[[], int]) -> int:
    """Run a command, with one line for each failure; returns the exit code.

    Raises
    ------
    SystemExit
        a signal other than Ctrl-C came, and all has been cleaned up.
    """
    open_streams()
    forbid_core_dumps()
    try:
        with _interruptible():
            code = command()
            flush()
            return code
    except KeyboardInterrupt:
        complain(program, "interrupted")
        return EXIT_SIGNAL + signal.SIGINT
    except Exception as error:
        code, message = explain(error)
        complain(program, f"error: {message}")
        return code


def require_memory(program: str) -> None:
    """Refuse, by an `InputError`, to work in less memory than a client needs."""
    lack = lack_of_memory(CLIENT_MIB)
    if lack:
        raise InputError(f"{program} {lack}")


def forbid_core_dumps() -> None:
    """Let nobody find scan and key in a core dump of this process; those that it starts inherit the limit."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        import ctypes

        # A program that collects dumps gets one whatever the limit is, but for this. Nor may others of the user look
        # into our memory.
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def explain(error: Exception) -> tuple[int, str]:
    """Exit code and one line for the user; what is not ours is a bug, whose text might hold anything: not shown.

    Raises
    ------
    KeyboardInterrupt, SystemExit
        a signal came before: C extensions that are being imported turn what its handler raises into an ImportError.
    """
    end_if_stopped()
    known = _known(error)
    if known is not None:
        return known.exit_code, printable(str(known), LONGEST_LINE)
    if os.environ.get(_TRACEBACK):
        traceback.print_exception(error)
    return EXIT_BUG, f"unexpected {type(error).__name__}, a bug; set {_TRACEBACK}=1 to see where"


def _known(error: Exception) -> MixprivError | None:
    """An error of ours, also for what surrounds us: memory, limits, file systems; None for a bug."""
    short = _memory_is_short()
    if isinstance(error, MixprivError):
        return type(error)(f"{error} (memory is short: {short})") if short else error
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name or "")):
        return InputError(f"{error.name} is not installed here: pip install 'mixpriv[{extra}]'")
    said = str(error)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or short or _lacks_memory(said):
        return InputError(f"not enough memory{f': {short}' if short else ''}")
    if "start new thread" in said:
        return InputError("no further thread can be started here: memory, or the limit on processes, is used up")
    if not isinstance(error, OSError):
        return None
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file or stream"
    if error.errno in _LIMITS:
        return InputError(f"{what}: a limit of this machine is reached ({error.strerror})")
    if error.errno in _SURROUNDINGS:
        return OutputError(f"{what}: cannot be used ({error.strerror})")
    return None


def _extra_of(module: str) -> str:
    """The extra that installs a module; empty for one that every installation has."""
    package = module.partition(".")[0]
    return next((extra for extra, packages in _EXTRAS.items() if package in packages), "")


def _lacks_memory(said: str) -> bool:
    return any(words in said for words in _NO_MEMORY)


def _memory_is_short() -> str:
    """Say that nearly all memory which we may use was used; empty if not."""
    limit = memory_limit()
    if limit is None:
        return ""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            used = {name: int(rest.split()[0]) >> 10 for name, _, rest in map(_parted, status) if name.startswith("Vm")}
    except (OSError, MemoryError):
        return ""
    peak = used.get("VmPeak" if limit.name == "ulimit -v" else "VmData", 0)
    return f"{limit.mib} MiB may be used ({limit.name})" if peak > _NEARLY_ALL * limit.mib else ""


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition(":")


_signals: list[int] = []
"""What came since the command began."""

_quiet_until = 0.0
"""Until then signals are only noted: what is cleaned up now would stay behind."""


def end_if_stopped() -> None:
    """End if a signal came before: what its handler raised was lost in some library."""
    if _signals:
        _end(_signals[0])


def clean_up_undisturbed() -> None:
    """The work is done and what was opened for it is about to be closed: for a while no signal interrupts that."""
    global _quiet_until
    _quiet_until = time.monotonic() + _SAME_END_S


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Take the signals that end a process as Ctrl-C while it lasts; only the main thread can, and all is put back."""
    global _quiet_until
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for number in (signal.SIGINT, *_ENDINGS):
        handler = signal.getsignal(number)
        mine = handler is signal.default_int_handler if number == signal.SIGINT else handler is not signal.SIG_IGN
        # What whoever started us ignores stays ignored: nohup, a shell's background job.
        if mine and handler is not None:
            before[number] = signal.signal(number, _stop)
    try:
        yield
    except Exception:
        end_if_stopped()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _signals.clear()
        _quiet_until = 0.0


def _stop(signum: int, frame: FrameType | None) -> None:
    """End in order: half-written files are removed and the embedded server is stopped, undisturbed by the next."""
    _signals.append(signum)
    if time.monotonic() >= _quiet_until:
        clean_up_undisturbed()
        _end(signum)


def _end(signum: int) -> None:
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(EXIT_SIGNAL + signum)
