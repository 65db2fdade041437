"""NIfTI files as accidents and attackers make them: any field, extensions, voxels, the layer of gzip."""

from __future__ import annotations

import gzip
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mixpriv.errors import InputError
from mixpriv.imaging.volume import Volume, encode_labels, load_volume
from tests.support.niftifile import AFFINE, NO_QFORM, NO_SFORM, TURNED, extension, nifti_bytes, ramp

_TYPES = ("u1", "<i2", ">i2", "<u2", "<i4", ">f4", "<f4", "<f8", "<i8")
_NUMBERS = (0, 1, -1, 2, 3, 4, 8, 0.5, -2, 0.002, 2000, 348, 352, 32767, -32768, 1e9, -1e9, 1e30, 1e-30, np.nan, np.inf,
            -np.inf)  # fmt: skip
_MEANINGFUL = (
    *("dim", "pixdim", "vox_offset", "datatype", "bitpix", "scl_slope", "scl_inter", "xyzt_units", "sform_code"),
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x", "srow_y", "srow_z"),
)
_BOMB = gzip.compress(bytes(1 << 24))


def example(random: np.random.Generator) -> bytes:
    """A file that is good but for some of its bytes."""
    kind = (nib.Nifti1Header, nib.Nifti2Header)[int(random.integers(2))]
    size = tuple(int(n) for n in random.integers(10, 14, 3)) + (1,) * int(random.integers(3))
    voxels = ramp(size, str(random.choice(_TYPES)))
    affine = (AFFINE, TURNED, AFFINE)[int(random.integers(3))]
    fields: dict[str, Any] = dict(({}, NO_SFORM, NO_QFORM, NO_SFORM | NO_QFORM)[int(random.integers(4))])
    for _ in range(int(random.integers(4))):
        fields |= _field(random, kind)
    content = nifti_bytes(voxels, affine, kind=kind, before=_extensions(random), **fields)
    return _zipped(random, _damaged(random, content))


def _field(random: np.random.Generator, kind: type[nib.Nifti1Header]) -> dict[str, Any]:
    """Another value for a field, or for one of its entries."""
    layout = kind.template_dtype
    name = str(random.choice(_MEANINGFUL if random.random() < 0.8 else list(layout.names)))
    base, shape = (layout[name].base, layout[name].shape)
    number = random.choice(_NUMBERS) if random.random() < 0.8 else random.normal() * 10 ** random.uniform(-3, 5)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = random.bytes(4) if base.kind == "S" else np.asarray(number).astype(base)[()]
    return {name: {int(random.integers(shape[0])): value} if shape and random.random() < 0.8 else value}


def _extensions(random: np.random.Generator) -> bytes:
    draw = random.random()
    if draw < 0.6:
        return b""
    if draw < 0.62:
        return extension(b"abcdefgh") * 20_000
    size = int(random.choice((0, -16, 8, 16, 37, 1 << 30))) if draw < 0.9 else None
    return extension(random.bytes(int(random.integers(60))), size)


def _damaged(random: np.random.Generator, content: bytes) -> bytes:
    """Some bytes changed, mostly of the header, and perhaps another length."""
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 8)) if random.random() < 0.3 else 0):
        reach = len(changed) if random.random() < 0.1 else 352
        changed[int(random.integers(reach))] = int(random.integers(256))
    draw = random.random()
    if draw < 0.1:
        return bytes(changed[: int(random.integers(len(changed)))])
    return bytes(changed) + (random.bytes(int(random.integers(5000))) if draw < 0.2 else b"")


def _zipped(random: np.random.Generator, content: bytes) -> bytes:
    if random.random() < 0.3:
        return content
    level = int(random.choice((0, 1, 6)))
    cuts = sorted(int(cut) for cut in random.integers(0, len(content) + 1, int(random.choice((0, 0, 1, 3)))))
    ends = zip([0, *cuts], [*cuts, len(content)], strict=True)
    zipped = bytearray(b"".join(gzip.compress(content[first:last], level, mtime=0) for first, last in ends))
    draw = random.random()
    if draw < 0.01:
        zipped += _BOMB * 5
    elif draw < 0.05:
        zipped += (bytes(100), random.bytes(30), gzip.compress(b"") * 500)[int(random.integers(3))]
    elif draw < 0.15:
        del zipped[int(random.integers(len(zipped))) :]
    elif draw < 0.4:
        for _ in range(int(random.integers(1, 5))):
            reach = 24 if random.random() < 0.3 else len(zipped)
            zipped[int(random.integers(min(reach, len(zipped))))] = int(random.integers(256))
    return bytes(zipped)


@contextmanager
def target() -> Iterator[Callable[[bytes], None]]:
    """What reads one file: it is read well, or refused in one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii.gz"

        def feed(content: bytes) -> None:
            path.write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    scan = load_volume(path)
                except InputError as error:
                    assert str(error).startswith(f"{path}: "), error  # noqa: PT017
                    assert str(error).isprintable(), error  # noqa: PT017
                    return
                _check(scan)

        yield feed


def _check(scan: Volume) -> None:
    """It is what the checks promise, and others find its label map where the scan is."""
    assert np.isfinite(scan.voxels).all()
    assert scan.ranges == ((float(scan.voxels.min()), float(scan.voxels.max())),)
    Volume(scan.voxels, scan.affine, scan.header, scan.name)
    kind = nib.Nifti2Image if isinstance(scan.header, nib.Nifti2Header) else nib.Nifti1Image
    labels = kind.from_bytes(encode_labels(np.zeros(scan.shape, np.uint8, order="F"), scan))
    assert labels.shape == scan.shape
    if not scan.warnings and int(scan.header["xyzt_units"]) & 7 not in (1, 3):
        np.testing.assert_allclose(labels.affine, scan.affine, rtol=1e-5, atol=1e-5)
