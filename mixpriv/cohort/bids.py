"""The scans of a BIDS dataset: of which people and sessions, and whether the dataset is one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mixpriv.cohort.find import Found
from mixpriv.errors import InputError, printable

DESCRIPTION = "dataset_description.json"
VALIDATOR = "bids-validator-deno"
_SUFFIXES = (".nii.gz", ".nii")


def with_prefix(labels: Sequence[str], prefix: str) -> list[str]:
    """Labels as in the names of folders, whether they were given with the prefix or without.

    Examples
    --------
    >>> with_prefix(["01", "sub-02"], "sub-")
    ['sub-01', 'sub-02']
    """
    return [label if label.startswith(prefix) else f"{prefix}{label}" for label in labels]


def require_dataset(folder: Path, out: Path) -> None:
    """Refuse a folder that is no BIDS dataset, or one for derivatives that is the dataset itself; `InputError`."""
    if not folder.is_dir():
        raise InputError(f"{folder}: expected the folder of a BIDS dataset")
    if os.path.realpath(folder) == os.path.realpath(out):
        raise InputError(f"{out}: expected another folder for results than the dataset's, such as derivatives/mixpriv")
    description = folder / DESCRIPTION
    try:
        told = json.loads(description.read_bytes())
    except FileNotFoundError:
        hint = 'make it, {"Name": "...", "BIDSVersion": "1.10.0"}, or give --skip-bids-validation'
        raise InputError(f"{description}: no such file, which BIDS asks for; {hint}") from None
    except (OSError, ValueError):
        raise InputError(f"{description}: expected a JSON file; repair it, or give --skip-bids-validation") from None
    if not isinstance(told, dict) or not told.get("Name") or not told.get("BIDSVersion"):
        raise InputError(f"{description}: expected Name and BIDSVersion; or give --skip-bids-validation")


def scans_of(folder: Path, people: Sequence[str], sessions: Sequence[str], modality: str) -> list[Found]:
    """All scans of a modality in a dataset, ``sub-*/[ses-*/]anat/*_T1w.nii[.gz]``, of some people and sessions or all.

    Raises
    ------
    InputError
        a named person is not in the dataset, or nobody has such a scan.
    """
    there = sorted(path.name for path in folder.glob("sub-*") if path.is_dir())
    chosen = list(dict.fromkeys(with_prefix(people, "sub-"))) or there
    missing = [person for person in chosen if person not in there]
    if missing:
        raise InputError(f"{folder}: no {', '.join(missing)} in this dataset of {len(there)} people")
    wanted = with_prefix(sessions, "ses-")
    found = []
    for person in chosen:
        if not wanted:
            found += _scans_in(folder, Path(person), modality)
        own = sorted(path.name for path in (folder / person).glob("ses-*") if path.is_dir())
        for session in own:
            if not wanted or session in wanted:
                found += _scans_in(folder, Path(person, session), modality)
    if not found:
        which = f" in {', '.join(wanted)}" if wanted else ""
        raise InputError(
            f"{folder}: expected *_{modality} scans of {', '.join(chosen[:3]) or 'sub-*'}{which}, got none"
        )
    return found


def _scans_in(folder: Path, below: Path, modality: str) -> list[Found]:
    inside = below / "anat"
    names = sorted(path.name for path in (folder / inside).glob(f"sub-*_{modality}.nii*"))
    return [Found(folder / inside / name, inside, named=False) for name in names if name.endswith(_SUFFIXES)]


def validate(folder: Path) -> list[str]:
    """Ask the official validator for errors of a dataset; one line for each kind, none if all is well.

    Raises
    ------
    InputError
        the validator is not installed, or does not work.
    """
    beside = Path(sys.executable).with_name(VALIDATOR)
    program = str(beside) if beside.is_file() else shutil.which(VALIDATOR)
    if program is None:
        raise InputError(f"{VALIDATOR} is not installed here: pip install 'mixpriv[bids]'")
    environment = os.environ | {"DENO_NO_UPDATE_CHECK": "1"}
    done = subprocess.run([program, "--json", str(folder)], capture_output=True, text=True, env=environment)
    try:
        issues = json.loads(done.stdout)["issues"]["issues"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise InputError(f"{VALIDATOR} cannot be used here: {printable(last)}") from None
    kinds: Counter[str] = Counter()
    example: dict[str, str] = {}
    for issue in issues:
        if issue.get("severity") == "error":
            kinds[issue["code"]] += 1
            example.setdefault(issue["code"], issue.get("location", ""))
    return [f"{code}: {count} files, first {example[code]}" for code, count in kinds.items()]
