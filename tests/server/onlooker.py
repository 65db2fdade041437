"""Another user of this machine, who tries to read what a server makes and is told: ``python onlooker.py FOLDER ...``.

Looks without a pause until its standard input ends, then tells as JSON what it could read. Starts as root.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


def read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(2**16)
    except OSError:
        return None


def below(folder: str) -> Iterator[str]:
    """Everything of a server's in a folder, as far as it can be listed."""
    for name in os.listdir(folder):
        if name.startswith(("mixpriv-", "python_env_")):
            path = os.path.join(folder, name)
            yield path
            for parent, _, files in os.walk(path):
                yield from (os.path.join(parent, file) for file in files)


def main(folders: list[str]) -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    seen, opened, commands, environments = set(), set(), set(), set()
    print("looking", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        for folder in folders:
            for path in below(folder):
                seen.add(path)
                if os.path.isfile(path) and read(path) is not None:
                    opened.add(path)
        for process in os.listdir("/proc"):
            if process.isdigit():
                command = read(f"/proc/{process}/cmdline") or b""
                if b"tritonserver" in command or b"stub" in command:
                    commands.add(command.decode(errors="replace"))
                    if read(f"/proc/{process}/environ") is not None:
                        environments.add(process)
    found = {"seen": seen, "opened": opened, "commands": commands, "environments": environments}
    print(json.dumps({name: sorted(values) for name, values in found.items()}))


if __name__ == "__main__":
    main([str(Path(folder)) for folder in sys.argv[1:]])
