"""NIfTI files whose headers hold just what a test wants, whether it makes sense or not."""

from __future__ import annotations

import struct
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

AFFINE = np.array([[-2.0, 0, 0, 11], [0, 2, 0, -13], [0, 0, 2, -15], [0, 0, 0, 1]])
TURNED = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, 0.1, -0.3) @ np.diag([-1.6, 2.5, 2.0]), [5, -7, 9])
NO_SFORM = {"sform_code": 0, "srow_x": 0, "srow_y": 0, "srow_z": 0}
NO_QFORM = {"qform_code": 0, "quatern_b": 0, "quatern_c": 0, "quatern_d": 0}


def ramp(shape: tuple[int, ...] = (12, 14, 16), dtype: str = "<i2") -> NDArray[Any]:
    """Voxels that all differ from their neighbours."""
    return (np.arange(np.prod(shape)) % 120).astype(dtype).reshape(shape, order="F")


def nifti_bytes(
    voxels: NDArray[Any] | None = None,
    affine: NDArray[np.float64] = AFFINE,
    *,
    kind: type[nib.Nifti1Header] = nib.Nifti1Header,
    before: bytes = b"",
    **fields: Any,
) -> bytes:
    """A single file, not zipped: sform and qform of an affine, ``before`` the voxels, and fields that are set as given.

    A field is set whole, or some of its entries if a dictionary of them is given.
    """
    voxels = ramp() if voxels is None else voxels
    header = kind(endianness=">" if voxels.dtype.byteorder == ">" else "<")
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header.set_xyzt_units("mm")
    header["vox_offset"] = header.single_vox_offset + len(before)
    for name, value in fields.items():
        for index, entry in value.items() if isinstance(value, dict) else [(..., value)]:
            header[name][index] = entry
    mark = b"\1\0\0\0" if before else bytes(4)
    return bytes(header.binaryblock) + mark + before + voxels.tobytes(order="F")


def extension(content: bytes, size: int | None = None) -> bytes:
    """A header extension, with a wrong size if one is given."""
    return struct.pack("<ii", len(content) + 8 if size is None else size, 6) + content
