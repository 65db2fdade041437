"""A bundle in two parts, each of which suffices for its side: so an owner can keep the segmenter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixpriv.export.atomic_folder import new_folder

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.bundle_fields import MOST_RECORD_BYTES, SIDES, check_field
from mixpriv.bundle_files import digests, require_side
from mixpriv.errors import InputError
from mixpriv.reading import read_file, read_json
from mixpriv.schema import FieldError

LICENCE = "LICENSE.txt"
_MOST_LICENCE_BYTES = 2**20
_OF_TRAINING = ("config", "trained")


def split(bundle: Bundle, folder: Path, licences: Mapping[str, Path]) -> Path:
    """Write the parts ``client`` and ``server`` of a bundle into a new folder.

    Both records name the files of the whole by their digests, and S by its fingerprint, by which a client knows its
    server. The client's leaves out the training's config and steps; what is said of its data and limits stays.

    Parameters
    ----------
    licences : a text file for ``client``, ``server`` or both. Its first line becomes the part's ``licence``. Without
        one the bundle's licence is named.

    Returns
    -------
    Path
        the folder

    Raises
    ------
    InputError
        the bundle is a part, or lacks a file, or a licence is no text.
    OutputError
        the folder exists already, or cannot be written.
    """
    require_side(bundle, "both")
    record = read_json(bundle.directory / "bundle.json", MOST_RECORD_BYTES)
    record["files"] = bundle.files or digests(bundle.directory)
    texts = {side: _licence(bundle, side, licences.get(side)) for side in ("client", "server")}
    with new_folder(folder) as staged:
        for side, (name, text) in texts.items():
            part = staged / side
            part.mkdir()
            for file in record["files"]:
                if SIDES[file] == side:
                    shutil.copyfile(bundle.directory / file, part / file)
            (part / LICENCE).write_text(text, encoding="utf-8")
            own = _of_side(record, side) | {"part": side, "licence": name}
            (part / "bundle.json").write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")
            load_bundle(part)  # whoever gets it reads it with the same checks
    return folder


def _of_side(record: Mapping[str, Any], side: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if side == "server" or name not in _OF_TRAINING}


def _licence(bundle: Bundle, side: str, file: Path | None) -> tuple[str, str]:
    """What the part's record calls its licence, and the text beside it."""
    if file is None:
        whose = "the segmenter" if side == "server" else "the client's networks and references"
        return bundle.licence, (
            f"{bundle.name} {bundle.version}, the {side}'s part: {whose}.\n\nLicence: {bundle.licence}\n"
        )
    try:
        text = read_file(file, _MOST_LICENCE_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{file}: expected a licence as text in UTF-8") from None
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    try:
        return str(check_field("licence", first)), text
    except FieldError as error:
        raise InputError(f"{file}: first line: {error}") from None
