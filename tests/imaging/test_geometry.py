"""What the fields of a header mean together: read as they are meant, or named in one line."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from mixpriv.errors import InputError
from mixpriv.imaging.geometry import check_geometry
from mixpriv.imaging.volume import Volume, encode_labels, load_volume
from tests.support.niftifile import AFFINE, NO_QFORM, NO_SFORM, TURNED, nifti_bytes

KINDS = [nib.Nifti1Header, nib.Nifti2Header]
BAD_SIZES = [0, np.nan, np.inf, -np.inf]


def quaternion(parts: Iterable[float]) -> dict[str, Any]:
    return dict(zip(("quatern_b", "quatern_c", "quatern_d"), parts, strict=True))


def load(tmp_path: Path, affine: NDArray[np.float64] = AFFINE, **how: Any) -> Volume:
    path = tmp_path / "scan.nii"
    path.write_bytes(nifti_bytes(None, affine, **how))
    return load_volume(path)


def refused(tmp_path: Path, message: str, affine: NDArray[np.float64] = AFFINE, **how: Any) -> None:
    with pytest.raises(InputError, match=rf"scan\.nii: .*{message}") as caught:
        load(tmp_path, affine, **how)
    assert "\n" not in str(caught.value)


def affine_of_labels(scan: Volume) -> NDArray[np.float64]:
    """Where the label map that is written lies, as nibabel understands it."""
    kind = nib.Nifti2Image if isinstance(scan.header, nib.Nifti2Header) else nib.Nifti1Image
    labels = np.zeros(scan.shape, np.uint8, order="F")
    return np.asarray(kind.from_bytes(encode_labels(labels, scan)).affine)


@pytest.mark.parametrize("kind", KINDS)
class TestQuaternion:
    @pytest.mark.parametrize("over", [0, 1e-15, 4e-7, 1e-6, 1e-5, 1e-3, 5e-3])
    @pytest.mark.parametrize("direction", [(0, 1, 0), (0.6, 0, 0.8), (0.48, 0.6, 0.64)])
    def test_a_little_too_long_is_half_a_turn(
        self, kind: type, over: float, direction: tuple[float, ...], tmp_path: Path
    ) -> None:
        unit = nib.quaternions.quat2mat([0, *direction]) @ np.diag([1.5, 2, 2.5])
        parts = np.array(direction) * (1 + over / 2)
        fields = quaternion(parts)
        offsets = {"qoffset_x": 9, "qoffset_y": 8, "qoffset_z": 7, "pixdim": {0: 1, 1: 1.5, 2: 2, 3: 2.5}}
        scan = load(tmp_path, kind=kind, **NO_SFORM, **fields, **offsets)
        np.testing.assert_allclose(scan.affine, nib.affines.from_matvec(unit, (9, 8, 7)), atol=1e-5)
        np.testing.assert_allclose(affine_of_labels(scan), scan.affine, atol=1e-6)
        assert scan.warnings == ()

    @pytest.mark.parametrize("parts", [(0, 1.1, 0), (1, 1, 1), (np.nan, 0, 0), (0, np.inf, 0), (1e38, 1e38, 0)])
    def test_much_too_long_is_named(self, kind: type, parts: tuple[float, ...], tmp_path: Path) -> None:
        refused(tmp_path, "quatern_b, quatern_c and quatern_d", kind=kind, **NO_SFORM, **quaternion(parts))

    @pytest.mark.parametrize("parts", [(0, 1.1, 0), (np.nan, 0, 0)])
    def test_is_not_looked_at_beside_an_sform(self, kind: type, parts: tuple[float, ...], tmp_path: Path) -> None:
        scan = load(tmp_path, kind=kind, **quaternion(parts))
        np.testing.assert_array_equal(scan.affine, AFFINE)

    def test_offsets(self, kind: type, tmp_path: Path) -> None:
        refused(tmp_path, "qoffset_x, qoffset_y and qoffset_z", kind=kind, **NO_SFORM, qoffset_y=np.nan)

    @pytest.mark.parametrize(("qfac", "sign"), [(0, 1), (1, 1), (-1, -1), (np.nan, 1)])
    def test_its_direction(self, kind: type, qfac: float, sign: int, tmp_path: Path) -> None:
        scan = load(tmp_path, np.diag([2.0, 2, 2, 1]), kind=kind, **NO_SFORM, pixdim={0: qfac})
        np.testing.assert_array_equal(scan.affine, np.diag([2.0, 2, 2 * sign, 1]))
        np.testing.assert_array_equal(affine_of_labels(scan), scan.affine)


@pytest.mark.parametrize("kind", KINDS)
class TestVoxelSizes:
    @pytest.mark.parametrize(("axis", "size"), list(product((1, 2, 3), BAD_SIZES)))
    @pytest.mark.parametrize("codes", [NO_SFORM, NO_SFORM | NO_QFORM])
    def test_are_named_if_they_are_needed(
        self, kind: type, codes: dict[str, Any], axis: int, size: float, tmp_path: Path
    ) -> None:
        refused(
            tmp_path, "pixdim: expected the size of a voxel along each axis", kind=kind, **codes, pixdim={axis: size}
        )

    @pytest.mark.parametrize("size", BAD_SIZES)
    @pytest.mark.parametrize("codes", [{}, NO_QFORM])
    def test_come_from_the_sform_if_they_are_missing(
        self, kind: type, codes: dict[str, Any], size: float, tmp_path: Path
    ) -> None:
        scan = load(tmp_path, TURNED, kind=kind, **codes, pixdim={1: size, 2: size, 3: size})
        np.testing.assert_allclose(scan.affine, TURNED, atol=1e-6)
        np.testing.assert_allclose(scan.header["pixdim"][1:4], (1.6, 2.5, 2.0), rtol=1e-6)
        np.testing.assert_allclose(affine_of_labels(scan), TURNED, atol=1e-6)

    @pytest.mark.parametrize("codes", [{}, NO_SFORM, NO_SFORM | NO_QFORM])
    def test_negative_ones_lose_their_sign_and_it_is_said(
        self, kind: type, codes: dict[str, Any], tmp_path: Path
    ) -> None:
        whole, scan = load(tmp_path, kind=kind, **codes), load(tmp_path, kind=kind, **codes, pixdim={2: -2})
        np.testing.assert_array_equal(scan.affine, whole.affine)
        assert whole.warnings == ()
        assert scan.warnings == ("pixdim is negative: taken without its sign",)

    @pytest.mark.parametrize("size", [0.01, 25, 1e30])
    def test_beyond_a_scans(self, kind: type, size: float, tmp_path: Path) -> None:
        refused(tmp_path, r"qform: expected voxels of 0\.05 to 20 mm", kind=kind, **NO_SFORM, pixdim={2: size})
        refused(tmp_path, r"pixdim: expected voxels of 0\.05 to", kind=kind, **NO_SFORM, **NO_QFORM, pixdim={2: size})


@pytest.mark.parametrize("kind", KINDS)
class TestSform:
    @pytest.mark.parametrize("factor", [0.5, 0.8, 0.95, 1.05, 1.25, 1000, 1e38])
    @pytest.mark.parametrize("codes", [{}, {"sform_code": 2}, NO_QFORM, {"sform_code": 4, "qform_code": 0}])
    @pytest.mark.parametrize("axes", [(1, 2, 3), (2,)])
    def test_of_another_size_than_pixdim(
        self, kind: type, factor: float, codes: dict[str, Any], axes: tuple[int, ...], tmp_path: Path
    ) -> None:
        sizes = dict.fromkeys(axes, 2 * factor)
        refused(tmp_path, r"sform \(srow_x, srow_y, srow_z\) and pixdim disagree", kind=kind, **codes, pixdim=sizes)

    def test_rounding_is_no_other_size(self, kind: type, tmp_path: Path) -> None:
        scan = load(tmp_path, kind=kind, pixdim={1: 2.01, 2: 1.99})
        np.testing.assert_array_equal(scan.affine, AFFINE)
        assert scan.warnings == ()

    @pytest.mark.parametrize("code", [3, 4, 5])
    def test_one_that_leads_to_a_template_of_another_size(self, kind: type, code: int, tmp_path: Path) -> None:
        scan = load(tmp_path, kind=kind, sform_code=code, srow_x=(-2.3, 0, 0, 0), srow_z=(0, 0.1, 2.2, 0))
        np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-5)
        assert scan.warnings == ("sform leads to a template of another size than pixdim says: the qform is used",)

    def test_zeros_beside_a_good_qform(self, kind: type, tmp_path: Path) -> None:
        scan = load(tmp_path, TURNED, kind=kind, **(NO_SFORM | {"sform_code": 1}))
        np.testing.assert_allclose(scan.affine, TURNED, atol=1e-5)
        np.testing.assert_allclose(affine_of_labels(scan), TURNED, atol=1e-5)

    def test_zeros_alone(self, kind: type, tmp_path: Path) -> None:
        fields = NO_SFORM | NO_QFORM | {"sform_code": 1}
        refused(tmp_path, "srow_x, srow_y and srow_z are 0", kind=kind, **fields)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("entry", [0, 3])
    def test_not_finite(self, kind: type, entry: int, value: float, tmp_path: Path) -> None:
        refused(tmp_path, "sform: affine has NaN or infinite entries", kind=kind, srow_x={entry: value})

    @pytest.mark.parametrize("units", [1, 2, 3])
    def test_numbers_that_alarm_the_processor(self, kind: type, units: int, tmp_path: Path) -> None:
        header = bytearray(nifti_bytes(kind=kind, xyzt_units=units, srow_x=(np.inf, -np.inf, 0, 0)))
        at = kind.template_dtype.fields["srow_y"][1]
        header[at : at + 8] = b"\1\0\x80\x7f\0\0\xf0\x7f"  # NaN of the kind that signals
        (tmp_path / "scan.nii").write_bytes(header)
        with pytest.raises(InputError, match="affine has NaN or infinite entries"):
            load_volume(tmp_path / "scan.nii")

    @pytest.mark.parametrize("code", [6, 77, 32767])
    def test_of_a_code_that_nobody_knows(self, kind: type, code: int, tmp_path: Path) -> None:
        scan = load(tmp_path, TURNED, kind=kind, sform_code=code, qform_code=code, quatern_b=0)
        np.testing.assert_allclose(scan.affine, TURNED, atol=1e-6)
        np.testing.assert_allclose(affine_of_labels(scan), TURNED, atol=1e-6)

    def test_of_the_other_hand_than_the_qform(self, kind: type, tmp_path: Path) -> None:
        scan = load(tmp_path, kind=kind, pixdim={0: 1})
        np.testing.assert_array_equal(scan.affine, AFFINE)
        assert scan.warnings == ("sform and qform (pixdim[0]) disagree about left and right: the sform is used",)

    @pytest.mark.parametrize("code", [-1, 0])
    def test_without_a_code_it_does_not_count(self, kind: type, code: int, tmp_path: Path) -> None:
        scan = load(tmp_path, TURNED, kind=kind, sform_code=code, srow_x=np.nan)
        np.testing.assert_allclose(scan.affine, TURNED, atol=1e-5)


class TestUnits:
    @pytest.mark.parametrize(("code", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (2 | 8, 1), (1 | 16, 1000)])
    @pytest.mark.parametrize("codes", [{}, NO_SFORM, NO_SFORM | NO_QFORM])
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_turned_into_mm(
        self, kind: type, codes: dict[str, Any], code: int, factor: float, tmp_path: Path
    ) -> None:
        expected = load(tmp_path, kind=kind, **codes).affine
        small = np.diag([1 / factor] * 3 + [1]) @ AFFINE
        scan = load(tmp_path, small, kind=kind, **codes, xyzt_units=code)
        np.testing.assert_allclose(scan.affine, expected, rtol=1e-5)
        assert scan.warnings == ()

    @pytest.mark.parametrize(("code", "unit"), [(1, "metres"), (3, "microns")])
    def test_a_unit_that_cannot_be_meant(self, code: int, unit: str, tmp_path: Path) -> None:
        scan = load(tmp_path, xyzt_units=code)
        np.testing.assert_array_equal(scan.affine, AFFINE)
        assert scan.warnings == (f"xyzt_units says {unit}, which the size of a voxel contradicts: taken as mm",)

    @pytest.mark.parametrize(("code", "unit", "size"), [(1, "metres", 0.04), (3, "microns", 30)])
    def test_no_unit_fits(self, code: int, unit: str, size: float, tmp_path: Path) -> None:
        affine = np.diag([size, size, 1000 * size, 1])
        refused(tmp_path, rf"sform in {unit} \(xyzt_units\): expected voxels", affine, xyzt_units=code)


class TestLimits:
    SHEARED = np.diag([2.0, 2, 2, 1]) @ [[1, 3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]

    @pytest.mark.parametrize(
        ("affine", "message"),
        [
            (np.full((4, 4), np.nan), "affine has NaN or infinite entries"),
            (np.diag([2, np.inf, 2, 1]), "affine has NaN or infinite entries"),
            (np.diag([2.0, 0, 2, 1]), r"expected voxels of 0\.05 to 20 mm"),
            (np.diag([2, 1e200, 2, 1]), r"expected voxels of 0\.05 to 20 mm"),
            (np.diag([1e-300, 2, 2, 1]), r"expected voxels of 0\.05 to 20 mm"),
            (SHEARED, "affine is singular or strongly sheared"),
            (nib.affines.from_matvec(np.ones((3, 3))), "affine is singular"),
            (np.diag([1.0, 2, 2, 1]), r"field of view of 16 to 600 mm .* got a smaller or larger one with shape \(12,"),
            (nib.affines.from_matvec(np.eye(3) * 2, [0, 0, 1e5]), "first voxel within 10 m of the origin"),
        ],
    )
    def test_are_the_same_for_every_affine(self, affine: NDArray[np.float64], message: str) -> None:
        with pytest.raises(InputError, match=f"^x: .*{message}"):
            check_geometry(affine, (12, 14, 16), "x")

    def test_a_tilted_gantry_is_within(self) -> None:
        check_geometry(nib.affines.from_matvec([[2, 0, 0], [0, 2, 1], [0, 0, 1.7]]), (12, 14, 16), "x")
