"""Folders that ``mixpriv-client segment --save-wire`` wrote: finding them, and looking for what identifies a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mixpriv.client.wire_record import DOCUMENT, FILE
from mixpriv.errors import InputError
from mixpriv.imaging.volume import WIRE_DESCRIPTION

_FIELDS = {"server", "model_name", "model_version", "requests", "sent", "received"}
_TENSOR = {"name", "datatype", "shape", "bytes", "sha256", "file"}
_TEXT = ("descrip", "aux_file", "intent_name", "db_name", "data_type")


def find_wires(folder: Path) -> list[Path]:
    """The folder itself or its sub-folders that hold a request.

    Raises
    ------
    InputError
        there is none.
    """
    found = sorted(path.parent for path in folder.rglob(DOCUMENT))
    if not found:
        raise InputError(f"{folder}: expected a folder of --save-wire with {DOCUMENT}, got none")
    return found


def identifying_fields(folder: Path) -> list[str]:
    """Names of what is beyond the contract: other fields and files, text in headers, another grid than the first's."""
    document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    found = [f"{DOCUMENT}: {name}" for name in sorted(set(_keys(document)) - _FIELDS - _TENSOR)]
    affines = []
    for path in sorted(folder.iterdir()):
        if path.name == DOCUMENT:
            continue
        if not FILE.fullmatch(path.name):
            found.append(f"file {len(found) + 1} of another name")
            continue
        image = nib.Nifti1Image.from_filename(path)
        texts = {name: bytes(image.header[name]).strip(b"\0 ") for name in _TEXT}
        found += [f"{path.name}: {name}" for name, text in texts.items() if text and text != WIRE_DESCRIPTION]
        found += [f"{path.name}: extension" for _ in image.header.extensions]
        affines.append(image.affine)
    return found + ["grids differ" for affine in affines[1:] if not np.allclose(affine, affines[0])]


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)
