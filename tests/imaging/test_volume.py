from __future__ import annotations

import gzip
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from mixpriv.atomic import write_file
from mixpriv.errors import InputError, OutputError
from mixpriv.imaging.files import zipped_as_named
from mixpriv.imaging.size import MAX_BYTES
from mixpriv.imaging.volume import Volume, encode_labels, load_volume, stem

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def image(shape: tuple[int, ...] = (12, 14, 16), dtype: str = "int16") -> nib.Nifti1Image:
    voxels = np.arange(np.prod(shape)).reshape(shape) % 1000
    return nib.Nifti1Image(voxels.astype(dtype), AFFINE)


def save(made: nib.Nifti1Image) -> Callable[[Path], None]:
    return lambda path: nib.save(made, path)


def text(path: Path) -> None:
    path.write_text("sub-01,T1w\n" * 100, encoding="utf-8")


def zipped_text(path: Path) -> None:
    path.write_bytes(gzip.compress(b"not an image at all, but rather long" * 100))


def bound(path: Path) -> None:
    folder = os.open(path.parent, os.O_PATH)  # its own path may be too long for a socket
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 30000, (40, 40, 40)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, AFFINE), path)
    path.write_bytes(path.read_bytes()[:-20000])


def wrong_checksum(path: Path) -> None:
    nib.save(image(), path)
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)


def patched(field: str, value: object, made: nib.Nifti1Image | None = None) -> Callable[[Path], None]:
    """An image whose header says something else."""

    def write(path: Path) -> None:
        source = made or image()
        header = source.header.copy()
        header["magic"], header["vox_offset"] = b"n+1", 352
        header[field] = value
        path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + np.asarray(source.dataobj).tobytes(order="F")))

    return write


def voxels(value: float, everywhere: bool = False) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        array = np.arange(12 * 14 * 16, dtype=np.float32).reshape(12, 14, 16)
        array[(slice(None),) if everywhere else (3, 4, 5)] = value
        nib.save(nib.Nifti1Image(array, AFFINE), path)

    return write


def with_affine(*rows: tuple[float, ...]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        made = image()
        made.header["sform_code"], made.header["qform_code"] = 1, 0
        for name, row in zip(("srow_x", "srow_y", "srow_z"), rows, strict=True):
            made.header[name] = row
        made.header["pixdim"][1:4] = np.sqrt(np.square(np.array(rows)[:, :3]).sum(axis=0))
        patched("sform_code", 1, made)(path)

    return write


COLOUR = np.zeros((12, 14, 16), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])

BAD = [
    ("missing", lambda path: None, "no such file"),
    ("folder", lambda path: path.mkdir(), "expected a scan or a folder with DICOM files, got a folder without any"),
    ("pipe", os.mkfifo, "expected a file, got a named pipe"),
    ("link to a device", lambda path: path.symlink_to("/dev/zero"), "expected a file, got a device"),
    ("dangling link", lambda path: path.symlink_to("nothing"), "a link to a file that is not there"),
    ("link to itself", lambda path: path.symlink_to(path), r"cannot be read \(Too many levels of symbolic links\)"),
    ("socket", bound, "expected a file, got a socket"),
    ("empty", lambda path: path.touch(), r"expected a NIfTI image \(\.nii or \.nii\.gz\), got something else"),
    ("text", text, r"expected a NIfTI image \(\.nii or \.nii\.gz\), got something else"),
    ("zipped text", zipped_text, r"expected a NIfTI image \(\.nii or \.nii\.gz\), got something else"),
    ("truncated", truncated, "file is truncated or damaged"),
    ("checksum", wrong_checksum, "file is truncated or damaged"),
    ("half a gzip header", lambda path: path.write_bytes(b"\x1f\x8b\x08\x00"), "file is truncated or damaged"),
    ("time series", save(image((10, 10, 10, 7))), r"expected a 3-D image, got shape \(10, 10, 10, 7\)"),
    ("2-D", save(image((64, 64))), r"expected a 3-D image, got shape \(64, 64\)"),
    ("one slice", save(image((64, 64, 1))), r"expected a 3-D image, got a 2-D one of shape \(64, 64, 1\)"),
    ("tiny", save(image((3, 3, 3))), r"expected at least 8 voxels along each axis, got shape \(3, 3, 3\)"),
    ("zeros", voxels(0.0, everywhere=True), "all voxels have the same value"),
    ("constant", voxels(7.0, everywhere=True), "all voxels have the same value"),
    ("NaN", voxels(np.nan), "voxels are NaN or infinite"),
    ("infinite", voxels(np.inf), "voxels are NaN or infinite"),
    ("minus infinite", voxels(-np.inf), "voxels are NaN or infinite"),
    ("complex", save(image(dtype="complex64")), "expected integer or floating-point voxels, got complex ones"),
    ("colour", save(nib.Nifti1Image(COLOUR, AFFINE)), "expected integer or .* got colour or compound ones"),
    ("2000³", patched("dim", [3, 2000, 2000, 2000, 1, 1, 1, 1]), rf"at most {MAX_BYTES // 4} voxels, got .*2000, 2000"),
    (
        "declares too much",
        patched("dim", [3, 290, 290, 290, 1, 1, 1, 1]),
        r"too small for an image of shape \(290, 290",
    ),
    ("negative size", patched("dim", [3, -5, 12, 12, 1, 1, 1, 1]), r"got shape \(-5, 12, 12\)"),
    ("unknown type", patched("datatype", 7777), "expected integer or floating-point voxels, got unknown ones"),
    ("other file for voxels", patched("magic", b"ni1"), "expected a NIfTI image"),
    ("NaN affine", with_affine((np.nan, 0, 0, 0), (0, 2, 0, 0), (0, 0, 2, 0)), "affine has NaN or infinite entries"),
    ("singular affine", with_affine((2, 2, 0, 0), (2, 2, 0, 0), (0, 0, 2, 0)), "affine is singular"),
    ("zero spacing", with_affine((1e-9, 0, 0, 0), (0, 2, 0, 0), (0, 0, 2, 0)), r"expected voxels of 0\.05 to 20 mm"),
    ("absurd spacing", with_affine((900, 0, 0, 0), (0, 2, 0, 0), (0, 0, 2, 0)), r"expected voxels of 0\.05 to 20 mm"),
    (
        "too thin",
        with_affine((1, 0, 0, 0), (0, 2, 0, 0), (0, 0, 2, 0)),
        "field of view of 16 to 600 mm .* got a smaller",
    ),
]


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    """Nothing here may wait for anything."""

    def stop(*_: object) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


class TestBadInput:
    @pytest.mark.parametrize(("make", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
    def test_one_clear_line_that_names_the_file(
        self, make: Callable[[Path], None], message: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "scan.nii.gz"
        make(path)
        with pytest.raises(InputError, match=rf"scan\.nii\.gz: .*({message})") as caught:
            load_volume(path)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2


class TestGoodInput:
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "int32", "float32", ">f8"])
    def test_every_kind_decodes_to_the_same_voxels(self, name: str, kind: type, dtype: str, tmp_path: Path) -> None:
        expected = (np.arange(12 * 14 * 16) % 200).reshape(12, 14, 16)
        header = kind.header_class(endianness=">" if dtype.startswith(">") else "<")
        header.set_data_dtype(dtype)
        nib.save(kind(expected.astype(dtype), AFFINE, header), tmp_path / name)
        volume = load_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.voxels, expected)
        np.testing.assert_array_equal(volume.affine, AFFINE)
        assert volume.voxels.dtype == np.float32
        assert volume.voxels.flags.f_contiguous

    def test_scaling_is_applied(self, tmp_path: Path) -> None:
        made = nib.Nifti1Image((np.arange(12 * 14 * 16) % 50).reshape(12, 14, 16).astype(np.int16), AFFINE)
        made.header.set_slope_inter(0.5, 10.0)
        raw = np.asarray(made.dataobj).copy()
        patched("scl_slope", 0.5, made)(tmp_path / "a.nii.gz")
        np.testing.assert_allclose(load_volume(tmp_path / "a.nii.gz").voxels, raw * 0.5 + 10.0)

    def test_a_single_time_point_is_a_3d_image(self, tmp_path: Path) -> None:
        nib.save(image((12, 14, 16, 1)), tmp_path / "a.nii.gz")
        assert load_volume(tmp_path / "a.nii.gz").voxels.shape == (12, 14, 16)

    def test_content_counts_not_the_name(self, tmp_path: Path) -> None:
        nib.save(image(), tmp_path / "a.nii")
        (tmp_path / "a.nii").rename(tmp_path / "b.nii.gz")
        assert load_volume(tmp_path / "b.nii.gz").voxels.shape == (12, 14, 16)

    def test_no_voxel_and_no_header_in_the_repr(self, tmp_path: Path) -> None:
        nib.save(image(), tmp_path / "a.nii.gz")
        assert repr(load_volume(tmp_path / "a.nii.gz")) == f"Volume(name='{tmp_path / 'a.nii.gz'}')"


class TestFromPython:
    """What is made from arrays is checked as a file is."""

    VOXELS = np.asfortranarray(np.arange(12 * 14 * 16).reshape(12, 14, 16), np.float32)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"voxels": VOXELS.astype(np.int16)}, "voxels: expected float32, got int16"),
            ({"voxels": VOXELS.astype(np.float64)}, "voxels: expected float32, got float64"),
            ({"voxels": VOXELS.astype(">f4")}, "voxels: expected float32, got >f4"),
            ({"voxels": VOXELS.tolist()}, "voxels: expected a NumPy array, got list"),
            ({"voxels": VOXELS[0]}, r"expected a 3-D image.* got shape \(14, 16\)"),
            ({"voxels": VOXELS[..., None, None]}, r"expected a 3-D image.* got shape \(12, 14, 16, 1, 1\)"),
            ({"voxels": VOXELS[..., None][..., :0]}, r"expected a 3-D image, got shape \(12, 14, 16, 0\)"),
            ({"voxels": VOXELS[:1]}, "expected a 3-D image, got a 2-D one"),
            ({"voxels": VOXELS[:5]}, r"expected at least 8 voxels along each axis, got shape \(5, 14, 16\)"),
            ({"voxels": np.broadcast_to(np.float32(0), (600, 600, 600))}, "expected at most 167772160 voxels"),
            ({"voxels": np.where(VOXELS == 9, np.float32(np.nan), VOXELS)}, "voxels are NaN or infinite"),
            ({"voxels": np.where(VOXELS == 9, np.float32(-np.inf), VOXELS)}, "voxels are NaN or infinite"),
            ({"voxels": VOXELS * 0}, "all voxels have the same value"),
            ({"voxels": np.stack([VOXELS, VOXELS * 0 + 3], -1)}, "all voxels have the same value"),
            ({"affine": AFFINE.tolist()}, "affine: expected a NumPy array, got list"),
            ({"affine": AFFINE.astype(np.float32)}, "affine: expected float64, got float32"),
            ({"affine": AFFINE[:3]}, "affine: expected a 4x4 matrix whose last row is 0 0 0 1"),
            ({"affine": AFFINE + 1}, "affine: expected a 4x4 matrix whose last row is 0 0 0 1"),
            ({"affine": np.diag([2, np.nan, 2, 1])}, "affine has NaN or infinite entries"),
            ({"affine": np.diag([0.0, 2, 2, 1])}, r"expected voxels of 0\.05 to 20 mm"),
            ({"affine": np.diag([1.0, 2, 2, 1])}, "expected a field of view of 16 to 600 mm"),
            ({"affine": nib.affines.from_matvec([[2.0, 2, 0], [2, 2, 0], [0, 0, 2]])}, "affine is singular"),
        ],
    )
    def test_is_refused_in_one_line(self, changes: dict[str, Any], message: str) -> None:
        parts = {"voxels": self.VOXELS, "affine": AFFINE, "header": None, "name": "array"}
        with pytest.raises(InputError, match=f"^array: .*{message}") as caught:
            Volume(**(parts | changes))
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match=message):
            replace(Volume(**parts), **changes)

    def test_a_good_one_is_taken_as_it_is(self) -> None:
        for voxels in (self.VOXELS, np.ascontiguousarray(self.VOXELS), self.VOXELS[::-1]):
            volume = Volume(voxels, AFFINE, None, "array")
            assert volume.voxels is voxels
            assert volume.ranges == ((0.0, 2687.0),)
            assert volume.lowest == 0.0

    def test_another_array_has_another_range(self) -> None:
        volume = Volume(self.VOXELS, AFFINE, None, "array")
        assert replace(volume, voxels=self.VOXELS - 5).ranges == ((-5.0, 2682.0),)

    def test_each_modality_has_its_own_range(self) -> None:
        both = Volume(np.stack([self.VOXELS, 7 - self.VOXELS], -1), AFFINE, None, "array")
        assert both.ranges == ((0.0, 2687.0), (-2680.0, 7.0))
        assert both.lowest == -2680.0
        assert [modality.ranges for modality in both.modalities] == [both.ranges[:1], both.ranges[1:]]

    def test_no_voxel_of_a_file_is_looked_at_twice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nib.save(image((12, 14, 16, 2)), tmp_path / "a.nii")
        scan = load_volume(tmp_path / "a.nii", ("T1w", "T2w"))
        monkeypatch.setattr(np, "moveaxis", lambda *_: pytest.fail("looked for the range again"))
        assert len(scan.modalities) == 2


def write_named(path: Path, content: bytes) -> None:
    write_file(path, zipped_as_named(path, content))


class TestSaving:
    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize(("qcode", "scode"), [(0, 0), (1, 0), (0, 2), (1, 4), (3, 3)])
    def test_geometry_and_codes_are_the_scans(self, kind: type, qcode: int, scode: int, tmp_path: Path) -> None:
        turned = nib.affines.from_matvec(
            nib.eulerangles.euler2mat(0.2, 0.1, -0.3) @ np.diag([-1.6, 2.5, 2]), [5, -7, 9]
        )
        made = kind(np.asarray(image().dataobj), None)
        made.set_qform(turned, qcode)
        made.set_sform(nib.affines.from_matvec(nib.eulerangles.euler2mat(0, 0, 0.3)) @ turned, scode)
        nib.save(made, tmp_path / "a.nii.gz")
        scan = load_volume(tmp_path / "a.nii.gz")
        labels = np.asfortranarray(scan.voxels % 6, dtype=np.uint8)
        write_named(tmp_path / "b.nii.gz", encode_labels(labels, scan))
        saved, source = nib.load(tmp_path / "b.nii.gz"), nib.load(tmp_path / "a.nii.gz")
        assert type(saved) is kind
        np.testing.assert_array_equal(saved.affine, source.affine)
        for which in ("get_qform", "get_sform"):
            (got, got_code), (expected, code) = (getattr(i, which)(coded=True) for i in (saved, source))
            assert got_code == code
            np.testing.assert_array_equal(got, expected) if expected is not None else None
        assert saved.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asarray(saved.dataobj), labels)

    def test_nothing_of_the_header_but_geometry_is_kept(self, tmp_path: Path) -> None:
        made = image()
        made.header["descrip"], made.header["aux_file"], made.header["db_name"] = b"Jane Doe", b"jane.txt", b"doe"
        made.header["cal_max"] = 900
        made.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe 1950"))
        nib.save(made, tmp_path / "a.nii")
        scan = load_volume(tmp_path / "a.nii")
        content = encode_labels(np.zeros((12, 14, 16), np.uint8), scan)
        for word in (b"Jane", b"jane", b"doe", b"1950"):
            assert word not in content
        assert nib.Nifti1Image.from_bytes(content).header["cal_max"] == 0

    def test_same_content_same_bytes(self, tmp_path: Path) -> None:
        for name in ("a.nii.gz", "b.nii.gz"):
            write_named(tmp_path / name, b"content" * 1000)
        assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
        assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes()) == b"content" * 1000

    def test_a_full_disk_leaves_nothing_and_keeps_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.nii"
        path.write_bytes(b"old")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(OutputError, match=r"a\.nii: cannot be written \(File too large\)"):
                write_named(path, bytes(100_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.nii.gz", "a"), ("a.nii", "a"), ("s.ub-1_T1w.NII.GZ", "s.ub-1_T1w"), ("a.mgz", "a"), ("a.b", "a.b")],
)
def test_stem(name: str, expected: str) -> None:
    assert stem(Path("folder") / name) == expected
