"""Images in two files, header (.hdr) and voxels (.img): NIfTI pairs, and Analyze 7.5, which tells no orientation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mixpriv.errors import InputError
from mixpriv.imaging.files import Content, opened
from mixpriv.imaging.geometry import check_geometry
from mixpriv.imaging.nifti import LONGEST_START, content_of, dtype_of, is_pair, read_header, shape_of
from mixpriv.imaging.size import check_shape

PAIR_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")

_NO_ORIENTATION = (
    "an Analyze file tells no orientation: taken as axial slices with the patient's right first; if that is wrong, "
    "left and right are exchanged in the result"
)
_AXIAL = (b"", b"\0", b"0")
"""What says in Analyze that slices are axial and not flipped, or nothing."""


def read_pair(path: Path, modalities: Sequence[str]) -> Content:
    """Read an image by the name of its header or of its voxels; see `mixpriv.imaging.volume.load_volume`."""
    header_path, voxels_path = _both(path)
    with opened(header_path) as file:
        start = file.stream.read(LONGEST_START)
    name = str(header_path)
    if is_pair(start):
        header = read_header(start, name, pair=True)
        with opened(voxels_path) as file:
            return content_of(header, file, modalities, name)
    return _read_analyze(_analyze_fields(start, name), voxels_path, modalities, name)


def _both(path: Path) -> tuple[Path, Path]:
    """The files of header and voxels: in one folder, each zipped or not."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    begin, end = name[:-4], name[-4:]
    twin = {".hdr": ".img", ".HDR": ".IMG", ".img": ".hdr", ".IMG": ".HDR"}.get(end, "")
    others = [path.with_name(f"{begin}{twin}{zipped}") for zipped in ("", ".gz")] if twin else []
    other = next((found for found in others if os.path.lexists(found)), None)
    if other is None:
        what = "its voxels" if end.lower() == ".hdr" else "its header"
        raise InputError(f"{path}: expected {what} beside it, in a file named {begin}{twin or '.hdr and .img'}")
    return (path, other) if end.lower() == ".hdr" else (other, path)


def _analyze_fields(start: bytes, name: str) -> Any:
    size = nib.Spm99AnalyzeHeader.sizeof_hdr
    for order, sign in (("little", "<"), ("big", ">")):
        if len(start) >= size and int.from_bytes(start[:4], order) == size:  # type: ignore[arg-type]
            return nib.Spm99AnalyzeHeader(start[:size], sign, check=False)
    raise InputError(f"{name}: expected the header of a NIfTI pair or of an Analyze image, got something else")


@np.errstate(all="ignore")  # NaN and infinity are among what is looked for
def _read_analyze(fields: Any, voxels_path: Path, modalities: Sequence[str], name: str) -> Content:
    shape = check_shape(shape_of(fields, name), modalities, name)
    dtype = dtype_of(fields, name)
    offset = float(fields["vox_offset"])
    if offset != 0:
        raise InputError(f"{name}: vox_offset: expected 0 in an Analyze header")
    if fields["orient"].item() not in _AXIAL:
        raise InputError(f"{name}: orient: expected axial slices in an Analyze image, or NIfTI, which tells more")
    sizes = np.abs(fields["pixdim"][1:4].astype(np.float64))
    if not np.isfinite(sizes).all() or not sizes.all():
        raise InputError(f"{name}: pixdim: expected the size of a voxel along each axis, got 0, NaN or infinity")
    fields["pixdim"][1:4] = sizes
    affine = np.asarray(fields.get_origin_affine(), dtype=np.float64)
    check_geometry(affine, shape, f"{name}: pixdim")
    with opened(voxels_path) as file:
        voxels, ranges = file.voxels(0, dtype, shape, (np.float32(1), np.float32(0)))
    return Content(voxels, affine, None, (_NO_ORIENTATION,), ranges)
