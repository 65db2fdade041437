"""Which code made a result, and where."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from mixpriv import __version__
from mixpriv.threads import available_threads


def commit() -> str:
    """Short hash of the checkout that runs, ``-dirty`` if changed; the version outside a checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"version {__version__}"


def hardware() -> str:
    """Processor, threads that may be used, and the widest instruction sets that matter here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    model = next((line.split(":")[1].strip() for line in text.splitlines() if "model name" in line), platform.machine())
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{model}, {available_threads()} threads, {' '.join(known) or 'no vector sets known'}"
