"""MGH and MGZ: read as nibabel reads them, written with equal geometry, or refused in one line."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mixpriv.errors import InputError
from mixpriv.imaging.volume import encode_as_named, load_volume
from tests.support.niftifile import TURNED, nifti_bytes, ramp

INT16, INT32, FLOAT = ">i2", ">i4", ">f4"


def mgh_bytes(dtype: str = INT16, shape: tuple[int, ...] = (12, 14, 16)) -> bytearray:
    return bytearray(nib.MGHImage(ramp(shape, dtype), TURNED).to_bytes())


@pytest.mark.parametrize("dtype", ["u1", INT16, INT32, FLOAT])
@pytest.mark.parametrize("name", ["a.mgz", "a.mgh", "a.mgh.gz", "A.MGZ"])
def test_is_read_as_nibabel_reads_it(dtype: str, name: str, tmp_path: Path) -> None:
    content = bytes(mgh_bytes(dtype))
    (tmp_path / name).write_bytes(content if name == "a.mgh" else gzip.compress(content))
    scan = load_volume(tmp_path / name)
    np.testing.assert_array_equal(scan.voxels, ramp())
    np.testing.assert_allclose(scan.affine, nib.MGHImage.from_bytes(content).affine)
    assert scan.warnings == ()
    assert scan.ranges == ((0.0, 119.0),)


def test_is_written_with_equal_geometry(tmp_path: Path) -> None:
    """To the last bit of the fields that tell it."""
    (tmp_path / "a.mgz").write_bytes(gzip.compress(bytes(mgh_bytes())))
    scan = load_volume(tmp_path / "a.mgz")
    labels = np.asfortranarray(scan.voxels % 6, dtype=np.uint8)
    (tmp_path / "b.mgz").write_bytes(encode_as_named(Path("b.mgz"), labels, scan))
    source, saved = nib.load(tmp_path / "a.mgz"), nib.load(tmp_path / "b.mgz")
    np.testing.assert_array_equal(saved.affine, source.affine)
    for field in ("delta", "Mdc", "Pxyz_c", "goodRASFlag"):
        np.testing.assert_array_equal(saved.header[field], source.header[field])
    assert saved.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(saved.dataobj), labels)


@pytest.mark.parametrize(("source", "saved"), [("a.nii", "b.mgz"), ("a.mgh", "b.nii.gz")])
def test_another_format_has_the_same_geometry(source: str, saved: str, tmp_path: Path) -> None:
    (tmp_path / source).write_bytes(nifti_bytes(affine=TURNED) if source == "a.nii" else mgh_bytes())
    scan = load_volume(tmp_path / source)
    (tmp_path / saved).write_bytes(encode_as_named(tmp_path / saved, np.zeros(scan.shape, np.uint8, order="F"), scan))
    np.testing.assert_allclose(nib.load(tmp_path / saved).affine, TURNED, atol=1e-5)


def test_without_orientation_the_user_is_told(tmp_path: Path) -> None:
    content = mgh_bytes(shape=(18, 20, 22))
    content[28:30] = bytes(2)
    (tmp_path / "a.mgh").write_bytes(content)
    scan = load_volume(tmp_path / "a.mgh")
    np.testing.assert_array_equal(scan.affine, nib.MGHImage.from_bytes(bytes(content)).affine)
    assert re.search("tells no orientation", scan.warnings[0])


def changed(first: int, content: bytes) -> Callable[[bytearray], None]:
    def change(file: bytearray) -> None:
        file[first : first + len(content)] = content

    return change


def cut(length: int) -> Callable[[bytearray], None]:
    return lambda file: file.__delitem__(slice(length, None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(0, b"\0\0\0\2"), "expected an MGH or MGZ image"),
        (cut(100), "expected an MGH or MGZ image"),
        (cut(284), "truncated or damaged"),
        (cut(1000), "truncated or damaged"),
        (changed(4, b"\xff\xff\xff\xff"), "expected a 3-D image"),
        (changed(4, b"\x7f\xff\xff\xff"), "expected at most"),
        (changed(4, b"\0\0\0\1"), "got a 2-D one"),
        (changed(16, b"\0\0\0\0"), "expected a 3-D image"),
        (changed(16, b"\0\0\0\2"), "expected a 3-D image"),
        (changed(20, b"\0\0\0\2"), "type: expected integer or floating-point"),
        (changed(30, np.float32(np.nan).newbyteorder(">").tobytes()), "delta: expected"),
        (changed(30, np.array(-1, ">f4").tobytes()), "delta: expected"),
        (changed(30, np.array(99, ">f4").tobytes()), "delta, Mdc and Pxyz_c: expected voxels of"),
        (changed(42, np.array(9, ">f4").tobytes()), "Mdc: expected directions of length 1"),
        (changed(42, np.array(np.inf, ">f4").tobytes()), "Mdc: expected directions of length 1"),
        (changed(78, np.array(np.nan, ">f4").tobytes()), "affine has NaN"),
        (changed(284, bytes(12 * 14 * 16 * 2)), "all voxels have the same value"),
    ],
)
def test_bad_files_are_refused_in_one_line(change: Callable[[bytearray], None], message: str, tmp_path: Path) -> None:
    content = mgh_bytes()
    change(content)
    for name, pack in (("a.mgh", bytes), ("a.mgz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(bytes(content)))
        with pytest.raises(InputError, match=rf"{name}: .*{message}") as caught:
            load_volume(tmp_path / name)
        assert "\n" not in str(caught.value)
