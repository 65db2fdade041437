"""Which files are scans: in folders those that look like one, and never what mixpriv itself has written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isal import igzip
from isal.igzip_lib import IsalError

from mixpriv.client.sidecar import OWN_FIELD
from mixpriv.errors import InputError
from mixpriv.imaging.dicom.files import dicom_scans
from mixpriv.imaging.dicom.series import has_mr
from mixpriv.imaging.mgh import MGH_SUFFIXES
from mixpriv.imaging.volume import DESCRIPTION, SUFFIXES, stem, suffix_of

SCAN_SUFFIXES = (*SUFFIXES, *MGH_SUFFIXES, ".hdr")
_HEADER_BYTES = 540  # of NIfTI-2, the longer one
_MADE_FROM_SCANS = frozenset(("dseg", "probseg", "mask", "seg", "aseg", "label", "labels"))
"""Last words of file names that are label maps to everybody."""

_MARK = "dataset_description.json"
_NOT_RAW = ("derivatives", "sourcedata", "code")
"""Folders of a BIDS dataset whose images are not its scans."""

LABELS, OWN, OTHER = "label maps", "results of mixpriv", "of another kind"


@dataclass(frozen=True)
class Found:
    """A scan, the folder below that which it was found in, and whether the user named the file itself."""

    scan: Path
    below: Path = Path()
    named: bool = True


@dataclass
class Listing:
    """All scans of a command line, and how many other images were left out, by the reason."""

    scans: list[Found] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def find_scans(given: Sequence[Path], modalities: Sequence[str], output: Path | None = None) -> Listing:
    """List the files that were named, and the scans in the folders that were named, in the order of their names.

    Below the folder for ``output`` nothing is looked for. Of files named as in BIDS those of the bundle's one modality
    are scans.

    Raises
    ------
    InputError
        there is no scan at all, or all that was named is what mixpriv made.
    """
    listing = Listing()
    for path in given:
        if os.path.isdir(path):
            if os.path.realpath(path) == os.path.abspath(os.sep):
                raise InputError(f"{path}: expected a folder of scans, got the whole file system")
            _add_folder(path, modalities, output, listing)
            _add_dicom(path, output, listing)
        elif made_by_mixpriv(path):
            listing.left_out[OWN] += 1
        else:
            listing.scans.append(Found(path))
    if not listing.scans:
        why = f", but {told(listing.left_out)}" if listing.left_out else ""
        raise InputError(f"{', '.join(map(str, given[:3]))}: expected scans, found none{why}")
    return listing


def told(left_out: Counter[str]) -> str:
    """What was left out, in words.

    Examples
    --------
    >>> told(Counter({"label maps": 2, "results of mixpriv": 1}))
    '2 label maps, 1 results of mixpriv'
    """
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())


def made_by_mixpriv(path: Path) -> bool:
    """Whether an image is what mixpriv wrote, by its header or by the JSON file beside it.

    False also of what cannot be read: others will tell.
    """
    try:
        if suffix_of(path) in MGH_SUFFIXES:
            return any(map(_tells_of_mixpriv, _sidecars_of(path)))
        if suffix_of(path) not in SUFFIXES:
            return False
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            header = (igzip.IGzipFile(fileobj=raw, mode="rb") if zipped else raw).read(_HEADER_BYTES)
    except (OSError, EOFError, ValueError, IsalError):  # type: ignore[misc]
        return False
    return DESCRIPTION in header


def _add_folder(folder: Path, modalities: Sequence[str], output: Path | None, listing: Listing) -> None:
    for path in _images(folder, output):
        reason = _reason_against(path, modalities)
        if reason:
            listing.left_out[reason] += 1
        else:
            listing.scans.append(Found(path, path.parent.relative_to(folder), named=False))


def _sidecars_of(image: Path) -> list[Path]:
    """The JSON files that would tell of an image of ours: its own, or of a map of confidence the label map's."""
    own = stem(image)
    labels = own.removesuffix("_confidence")
    return [image.with_name(f"{name}.json") for name in dict.fromkeys((own, labels, f"{labels}_dseg"))]


def _tells_of_mixpriv(sidecar: Path) -> bool:
    return sidecar.is_file() and OWN_FIELD in sidecar.read_text(encoding="utf-8")


def _add_dicom(folder: Path, output: Path | None, listing: Listing) -> None:
    """Add each DICOM study of a folder as a scan: which of its series is one, its reader says.

    A study without any MR image, such as one of label maps, is left out where there are other scans.
    """
    seen = {os.path.realpath(folder), *([os.path.realpath(output)] if output is not None else [])}

    def leave_out(inner: Path) -> bool:
        place = os.path.realpath(inner)
        hidden = inner.name.startswith(".") or (inner.name in _NOT_RAW and inner.with_name(_MARK).is_file())
        if hidden or place in seen:
            return True
        seen.add(place)
        return False

    studies = dicom_scans(folder, leave_out)
    with_mr = [path for path in studies if has_mr(path)]
    kept = with_mr if with_mr or listing.scans else studies  # of a study alone its reader says what is wrong
    listing.left_out.update([OTHER] * (len(studies) - len(kept)))
    for path in kept:
        named = path == folder
        listing.scans.append(Found(path, Path() if named else path.parent.relative_to(folder), named))


def _reason_against(path: Path, modalities: Sequence[str]) -> str:
    """Why an image found in a folder is no scan of this kind; empty if it may be one."""
    words = stem(path).split("_")
    if words[-1].lower() in _MADE_FROM_SCANS and len(words) > 1:
        return LABELS
    if words[0].startswith("sub-") and len(modalities) == 1 and words[-1] != modalities[0]:
        return OTHER
    return OWN if made_by_mixpriv(path) else ""


def _images(folder: Path, output: Path | None) -> Iterator[Path]:
    """All images below a folder, by name; links to folders are followed, each folder once."""
    own = os.path.realpath(output) if output is not None else None
    own = None if own == os.path.realpath(folder) else own
    seen: set[str] = set()

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename}: this folder cannot be read ({error.strerror})") from None

    for where, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        place = os.path.realpath(where)
        if place in seen or place == own:
            folders.clear()
            continue
        seen.add(place)
        left = _NOT_RAW if _MARK in names else ()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in left)
        yield from (Path(where, name) for name in _of_images(names))


def _of_images(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.lower().endswith(SCAN_SUFFIXES) and not name.startswith("."))
