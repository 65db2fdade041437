"""Which results are there and whole, judged by the scan's content and by the settings: told in the JSON beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixpriv import __version__
from mixpriv.bundle import Bundle
from mixpriv.client.naming import Outputs
from mixpriv.client.sidecar import OWN_FIELD
from mixpriv.errors import InputError
from mixpriv.imaging.dicom.files import dicom_files
from mixpriv.imaging.pair import PAIR_SUFFIXES
from mixpriv.imaging.volume import stem, suffix_of

_CHUNK = 2**20
_TOLD = ("intracranial_ml", "brain_ml", "classes", "warnings", "checks", "score", "risk")
"""Of a result, what the record repeats."""


def settings_digest(bundle: Bundle, mode: object, further: Mapping[str, object]) -> str:
    """A digest of all that decides over a result, beside the scan: version, bundle, mode and further settings."""
    told = [__version__, bundle.name, bundle.version, bundle.fingerprint, repr(mode), dict(further)]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def scan_digest(scan: Path) -> str:
    """SHA-256 of a scan's bytes: of its file, of both files of a pair, of all DICOM images of a folder but our results.

    Raises
    ------
    OSError
        a file cannot be read.
    """
    digest = hashlib.sha256()
    if scan.is_dir():
        files = dicom_files(scan)
    elif suffix_of(scan) in PAIR_SUFFIXES:
        beside = sorted(path for path in scan.parent.iterdir() if suffix_of(path) in PAIR_SUFFIXES)
        files = [path for path in beside if stem(path) == stem(scan)]
    else:
        files = [scan]
    for path in files:
        digest.update(_of_file(path))
    return digest.hexdigest()


def with_record(
    contents: Mapping[Path, bytes], sidecar: Path, scan: Path, settings: str, result: Mapping[str, Any]
) -> dict[Path, bytes]:
    """Add to the files of a result, in their JSON, digests of scan, settings and files, and what was told of it.

    It comes last, since it says that the others are whole.
    """
    others = {path: content for path, content in contents.items() if path != sidecar}
    document = json.loads(contents[sidecar])
    document[OWN_FIELD] |= {
        "ScanSHA256": scan_digest(scan),
        "SettingsSHA256": settings,
        "FilesSHA256": {path.name: hashlib.sha256(content).hexdigest() for path, content in others.items()},
        "Result": {name: result[name] for name in _TOLD if name in result},
    }
    return {**others, sidecar: json.dumps(document, indent=2).encode() + b"\n"}


def done_before(scan: Path, files: Outputs, settings: str) -> dict[str, Any] | None:
    """What was told of a result that is there, whole, of this content and these settings; None if there is none."""
    noted = read_record(files.sidecar)
    try:
        whole = noted["FilesSHA256"]
        if files.labels.name not in whole or noted["SettingsSHA256"] != settings:
            return None
        for name, digest in whole.items():
            if _of_file(files.sidecar.with_name(name)).hex() != digest:
                return None
        return dict(noted["Result"]) if noted["ScanSHA256"] == scan_digest(scan) else None
    except (KeyError, TypeError, AttributeError, ValueError, OSError, InputError):
        return None


def require_replaceable(files: Outputs, bundle: Bundle) -> bool:
    """Whether files of an earlier result are in the way that may be replaced: mixpriv made them, with this bundle.

    Raises
    ------
    InputError
        they are somebody else's, or another bundle's.
    """
    there = [path for path in files.all() if path.exists() or path.is_symlink()]
    if not there:
        return False
    noted = read_record(files.sidecar)
    if not noted:
        raise InputError(f"{there[0]}: output exists and tells not how it was made; give --force to overwrite it")
    name = noted.get("Bundle", {}).get("Name")
    if name != bundle.name:
        raise InputError(f"{files.labels}: made with bundle {name}; expected another folder for bundle {bundle.name}")
    return True


def read_record(sidecar: Path) -> dict[str, Any]:
    """What mixpriv noted in the JSON beside a label map; empty if there is nothing of it."""
    try:
        found = json.loads(sidecar.read_bytes())
    except (OSError, ValueError):
        return {}
    noted = found.get(OWN_FIELD) if isinstance(found, dict) else None
    return noted if isinstance(noted, dict) else {}


def _of_file(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(_CHUNK):
            digest.update(part)
    return digest.digest()
