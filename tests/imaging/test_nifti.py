"""Headers, extensions, the layer of gzip: read as they are meant or named in one line, at once and in little memory."""

from __future__ import annotations

import gzip
import struct
import time
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from mixpriv.errors import InputError
from mixpriv.imaging.files import MAX_OTHER_BYTES
from mixpriv.imaging.volume import load_volume
from tests.support.niftifile import extension, nifti_bytes, ramp

KINDS = [nib.Nifti1Header, nib.Nifti2Header]
SIZES = {nib.Nifti1Header: 348, nib.Nifti2Header: 540}


def save(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    return path


def read_well(tmp_path: Path, content: bytes, remarks: tuple[str, ...] = ()) -> None:
    """Its voxels are the ramp, and no library has a word to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan = load_volume(save(tmp_path, content))
    np.testing.assert_array_equal(scan.voxels, ramp())
    assert scan.warnings == remarks
    assert scan.ranges == ((0.0, 119.0),)


def refused(tmp_path: Path, content: bytes, message: str) -> None:
    begin = time.perf_counter()
    with pytest.raises(InputError, match=rf"scan\.nii\.gz: .*{message}") as caught:
        load_volume(save(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize("kind", KINDS)
class TestOffset:
    @pytest.mark.parametrize("offset", [-1, 1, 16, 347, 1 << 28])
    def test_out_of_reach(self, kind: type, offset: int, tmp_path: Path) -> None:
        refused(tmp_path, nifti_bytes(kind=kind, vox_offset=offset), "vox_offset: expected 0 or a whole number")

    @pytest.mark.parametrize("pack", [bytes, gzip.compress])
    @pytest.mark.parametrize("mark", [0, 4])
    def test_0_is_right_behind_the_header(self, kind: type, pack: Any, mark: int, tmp_path: Path) -> None:
        content = nifti_bytes(kind=kind, vox_offset=0)
        read_well(tmp_path, pack(content[: SIZES[kind]] + content[SIZES[kind] + 4 - mark :]))

    def test_the_mark_of_extensions_may_be_missing(self, kind: type, tmp_path: Path) -> None:
        content = nifti_bytes(kind=kind, vox_offset=SIZES[kind])
        read_well(tmp_path, content[: SIZES[kind]] + content[SIZES[kind] + 4 :])

    def test_beyond_the_end(self, kind: type, tmp_path: Path) -> None:
        for pack in (bytes, gzip.compress):
            refused(tmp_path, pack(nifti_bytes(kind=kind, vox_offset=1 << 20)), "file is truncated or damaged")


@pytest.mark.parametrize("offset", [np.inf, -np.inf, np.nan, 1e30, -1e30, 352.5])
def test_an_offset_that_is_no_number_of_bytes(offset: float, tmp_path: Path) -> None:
    refused(tmp_path, nifti_bytes(vox_offset=offset), "vox_offset: expected 0 or a whole number of bytes")


class TestExtensions:
    MANY = extension(b"abcdefgh") * 250_000

    @pytest.mark.parametrize("size", [None, 0, -16, 37, 1 << 30, 8])
    def test_are_passed_over_whatever_they_say(self, size: int | None, tmp_path: Path) -> None:
        read_well(tmp_path, nifti_bytes(before=extension(b"y" * 29, size)))

    def test_a_million_small_ones_take_no_time_and_no_memory(self, tmp_path: Path) -> None:
        path = save(tmp_path, gzip.compress(nifti_bytes(before=self.MANY), 1))
        tracemalloc.start()
        begin = time.perf_counter()
        scan = load_volume(path)
        seconds, (_, peak) = time.perf_counter() - begin, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        np.testing.assert_array_equal(scan.voxels, ramp())
        assert seconds < 2
        assert peak < 2**22

    def test_come_after_the_header(self, tmp_path: Path) -> None:
        content = gzip.compress(nifti_bytes(before=self.MANY, datatype=7777), 1)
        refused(tmp_path, content, "datatype: expected integer or floating-point voxels, got unknown ones")


@pytest.mark.parametrize("kind", KINDS)
class TestFields:
    @pytest.mark.parametrize("axes", [0, 8, -3, 768])
    def test_number_of_axes(self, kind: type, axes: int, tmp_path: Path) -> None:
        refused(tmp_path, nifti_bytes(kind=kind, dim={0: axes}), r"dim\[0\]: expected a number of axes")

    @pytest.mark.parametrize("size", [0, -5, -32768])
    @pytest.mark.parametrize("axis", [1, 2, 3])
    def test_size_of_an_axis(self, kind: type, axis: int, size: int, tmp_path: Path) -> None:
        refused(tmp_path, nifti_bytes(kind=kind, dim={axis: size}), f"expected a 3-D image, got shape .*{size}")

    @pytest.mark.parametrize("further", [(1,), (0,), (-1, 1), (1, 1, 1, 1), (1, 0, 1)])
    def test_axes_without_extent(self, kind: type, further: tuple[int, ...], tmp_path: Path) -> None:
        dim = {0: 3 + len(further)} | {4 + index: size for index, size in enumerate(further)}
        read_well(tmp_path, nifti_bytes(kind=kind, dim=dim))

    def test_what_lies_beyond_the_axes_is_not_looked_at(self, kind: type, tmp_path: Path) -> None:
        read_well(tmp_path, nifti_bytes(kind=kind, dim={4: 900, 5: -7, 6: 0, 7: 32767}))

    @pytest.mark.parametrize(
        ("code", "what"),
        [(0, "unknown"), (1, "1-bit"), (-4, "unknown"), (32, "complex"), (1792, "complex"), (2048, "complex"),
         (128, "colour"), (2304, "colour"), (1536, "128-bit floating-point"), (7777, "unknown")],
    )  # fmt: skip
    def test_types(self, kind: type, code: int, what: str, tmp_path: Path) -> None:
        refused(tmp_path, nifti_bytes(kind=kind, datatype=code), f"datatype: expected integer or .*, got {what}.* ones")

    @pytest.mark.parametrize("bits", [0, 8, 32, -1])
    def test_bits_of_another_type(self, kind: type, bits: int, tmp_path: Path) -> None:
        remarks = ("bitpix and datatype disagree: datatype is taken",) if bits else ()
        read_well(tmp_path, nifti_bytes(kind=kind, bitpix=bits), remarks)

    @pytest.mark.parametrize("slope", [0, np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("inter", [0, 7, np.nan, np.inf])
    def test_no_slope_no_scaling(self, kind: type, slope: float, inter: float, tmp_path: Path) -> None:
        read_well(tmp_path, nifti_bytes(kind=kind, scl_slope=slope, scl_inter=inter))

    @pytest.mark.parametrize("inter", [np.nan, np.inf, -np.inf])
    def test_an_intercept_that_is_no_number(self, kind: type, inter: float, tmp_path: Path) -> None:
        path = save(tmp_path, nifti_bytes(kind=kind, scl_slope=0.5, scl_inter=inter))
        np.testing.assert_array_equal(load_volume(path).voxels, ramp() * 0.5)

    def test_what_says_nothing_of_the_voxels_may_say_anything(self, kind: type, tmp_path: Path) -> None:
        junk: dict[str, Any] = dict.fromkeys(("cal_min", "cal_max", "toffset", "slice_duration", "intent_p1"), np.nan)
        texts = dict.fromkeys(("descrip", "aux_file", "intent_name"), b"\xff\xfe\x1b[2J")
        odd = {"intent_code": -3, "slice_code": 99, "dim_info": 255, "slice_end": -1}
        read_well(tmp_path, nifti_bytes(kind=kind, **junk, **texts, **odd))

    @pytest.mark.parametrize("length", [0, 347, 349, -348, 540 * 65536])
    def test_its_own_length(self, kind: type, length: int, tmp_path: Path) -> None:
        refused(tmp_path, struct.pack("<i", length) + nifti_bytes(kind=kind)[4:], "sizeof_hdr: expected (348|540)")

    def test_of_a_pair(self, kind: type, tmp_path: Path) -> None:
        content = nifti_bytes(kind=kind).replace(b"n+", b"ni")
        refused(tmp_path, content, r"expected a NIfTI image .* whose voxels are in another file \(\.hdr and \.img\)")

    @pytest.mark.parametrize("length", [4, 100, 347, 352])
    def test_cut_short(self, kind: type, length: int, tmp_path: Path) -> None:
        for pack in (bytes, gzip.compress):
            message = "expected a NIfTI image|file is truncated or damaged"
            refused(tmp_path, pack(nifti_bytes(kind=kind)[:length]), message)


class TestScaling:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "dtype", ["u1", "i1", "<i2", ">i2", "<u2", ">i4", "<u4", "<i8", ">u8", "<f4", ">f4", "<f8", ">f8"]
    )
    @pytest.mark.parametrize(("slope", "inter"), [(1, 0), (1, -3), (0.1, 0), (2.5, 1000.1), (-0.3, 7)])
    def test_is_nibabels(self, kind: type, dtype: str, slope: float, inter: float, tmp_path: Path) -> None:
        content = nifti_bytes(ramp(dtype=dtype), kind=kind, scl_slope=slope, scl_inter=inter)
        image = (nib.Nifti1Image if kind is nib.Nifti1Header else nib.Nifti2Image).from_bytes(content)
        scan = load_volume(save(tmp_path, content))
        np.testing.assert_allclose(scan.voxels, image.get_fdata(), rtol=1e-5, atol=1e-5)
        assert scan.ranges == ((scan.voxels.min(), scan.voxels.max()),)

    def test_no_more_memory_than_the_result(self, tmp_path: Path) -> None:
        voxels = ramp((100, 110, 120), "<f8")
        path = save(tmp_path, gzip.compress(nifti_bytes(voxels, np.diag([2.0, 2, 2, 1]), scl_slope=0.5), 1))
        tracemalloc.start()
        scan = load_volume(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        np.testing.assert_array_equal(scan.voxels, voxels / 2)
        assert peak < scan.voxels.nbytes + 9 * 2**20


class TestGzip:
    CONTENT = nifti_bytes()

    @pytest.mark.parametrize("behind", [0, 1, 5000, 1 << 20, 4 << 20])
    @pytest.mark.parametrize("level", [0, 6])
    def test_damage_is_found_whatever_follows_the_voxels(self, behind: int, level: int, tmp_path: Path) -> None:
        zipped = bytearray(gzip.compress(self.CONTENT + bytes(behind), level, mtime=0))
        read_well(tmp_path, bytes(zipped))
        zipped[-8] ^= 1  # in the checksum
        refused(tmp_path, bytes(zipped), "file is truncated or damaged")
        zipped[-8] ^= 1
        zipped[-1] ^= 1  # in the length
        refused(tmp_path, bytes(zipped), "file is truncated or damaged")

    @pytest.mark.parametrize("cut", [348, 352, 3000])
    def test_of_several_members(self, cut: int, tmp_path: Path) -> None:
        first, second = (
            gzip.compress(self.CONTENT[:cut], mtime=0),
            bytearray(gzip.compress(self.CONTENT[cut:], mtime=0)),
        )
        read_well(tmp_path, first + second)
        read_well(tmp_path, first + gzip.compress(b"") * 1000 + second + bytes(512))
        second[-8] ^= 1
        refused(tmp_path, first + second, "file is truncated or damaged")
        refused(tmp_path, first, "file is truncated or damaged")

    def test_a_bomb_behind_the_voxels(self, tmp_path: Path) -> None:
        member = gzip.compress(bytes(1 << 24))
        zipped = gzip.compress(self.CONTENT) + member * 64
        refused(tmp_path, zipped, f"more than {MAX_OTHER_BYTES} bytes behind the voxels of a single image")

    def test_a_bomb_of_voxels(self, tmp_path: Path) -> None:
        zipped = gzip.compress(nifti_bytes(dim={1: 32767, 2: 32767, 3: 32767})[:352] + bytes(1 << 24))
        refused(tmp_path, zipped, r"expected at most \d+ voxels")

    @pytest.mark.parametrize("flags", [4, 8, 16, 2, 30, 0xE0])
    def test_odd_headers_of_gzip(self, flags: int, tmp_path: Path) -> None:
        zipped = bytearray(gzip.compress(self.CONTENT))
        zipped[3] = flags
        zipped[10:10] = b"\xff\xff" + b"name" * 300_000
        refused(tmp_path, bytes(zipped), "file is truncated or damaged")

    def test_what_follows_is_no_gzip(self, tmp_path: Path) -> None:
        refused(tmp_path, gzip.compress(self.CONTENT) + b"trailing garbage", "file is truncated or damaged")

    def test_what_follows_the_voxels_of_a_file_that_is_not_zipped(self, tmp_path: Path) -> None:
        read_well(tmp_path, self.CONTENT + b"trailing garbage")

    @pytest.mark.parametrize("lost", [1, 8, 9, 100])
    def test_truncated(self, lost: int, tmp_path: Path) -> None:
        refused(tmp_path, gzip.compress(self.CONTENT)[:-lost], "file is truncated or damaged")
        refused(tmp_path, self.CONTENT[:-lost], "file is truncated or damaged")
