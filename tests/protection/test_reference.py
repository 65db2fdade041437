"""References: exact labels, keyed, in range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixpriv.errors import InputError
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import ReferenceModel, draw_labels, draw_reference


@pytest.fixture(scope="module")
def model() -> ReferenceModel:
    """A ball with a solid core: classes background, CSF, cortex, white matter, nucleus."""
    grid = np.meshgrid(*(np.linspace(-1, 1, 24),) * 3, indexing="ij")
    radius = np.sqrt(sum(g**2 for g in grid))
    brain, core = radius < 0.8, radius < 0.3
    atlas = np.zeros((5, 24, 24, 24), np.uint8)
    atlas[0][~brain] = 255
    for index, share in ((1, 55), (2, 100), (3, 100)):
        atlas[index][brain & ~core] = share
    atlas[4][core] = 255
    return ReferenceModel(
        atlas=atlas,
        step=4 / 3,
        tissue_of=np.array([0, 5, 2, 1, 3], np.uint8),
        fold_rank=np.array([-1, 0, 1, 2, -1], np.int8),
        intensity_range=np.array([[0, 0], [0.1, 0.3], [0.5, 0.7], [0.9, 1.0], [0.7, 0.8]], np.float32),
        warp_mm=2.0,
        grid_shape=(32, 32, 32),
        spacing_mm=1.5,
    )


class TestDraw:
    def test_shapes_range_and_mask(self, model: ReferenceModel) -> None:
        reference = draw_reference(model, Keystream(bytes(32)))
        assert reference.image.shape == reference.labels.shape == reference.mask.shape == model.grid_shape
        assert reference.image.dtype == np.float32
        assert reference.labels.dtype == reference.mask.dtype == np.uint8
        assert reference.image.min() == 0.0
        assert reference.image.max() == 1.0
        assert not reference.image[reference.mask == 0].any()
        np.testing.assert_array_equal(reference.mask == 1, reference.labels > 0)

    def test_same_seed_same_reference(self, model: ReferenceModel) -> None:
        first, second = (draw_reference(model, Keystream(b"k" * 32)) for _ in range(2))
        assert first.image.tobytes() == second.image.tobytes()
        assert first.labels.tobytes() == second.labels.tobytes()

    def test_other_seed_other_reference(self, model: ReferenceModel) -> None:
        first, second = (draw_reference(model, Keystream(seed * 32)) for seed in (b"a", b"b"))
        inside = (first.mask | second.mask) == 1
        assert np.mean(first.labels[inside] != second.labels[inside]) > 0.2

    def test_every_tissue_occurs_and_intensities_follow_it(self, model: ReferenceModel) -> None:
        reference = draw_reference(model, Keystream(b"c" * 32))
        means = {label: reference.image[reference.labels == label].mean() for label in (1, 2, 3, 5)}
        assert means[1] > means[2] > means[5]


class TestFile:
    def test_round_trip(self, model: ReferenceModel, tmp_path: Path) -> None:
        model.save(tmp_path / "m.npz")
        again = ReferenceModel.load(tmp_path / "m.npz")
        seed = b"s" * 32
        assert (
            draw_reference(again, Keystream(seed)).image.tobytes()
            == draw_reference(model, Keystream(seed)).image.tobytes()
        )

    def test_a_model_of_structures_keeps_their_labels_exact(self, tmp_path: Path) -> None:
        """20 intensity classes, 18 structures: written, read and drawn again alike, and painted as labelled."""
        folded = {1: 0, 2: 1, 3: 2}
        tissue_of = np.array([0, 15, 2, 1, *range(3, 15), 16, 17, 3, 1], np.uint8)
        atlas = np.zeros((len(tissue_of), 24, 24, 24), np.uint8)
        atlas[0] = 255
        atlas[0, 2:-2, 2:-2, 2:-2] = 0
        for index in folded:
            atlas[index, 2:-2, 2:-2, 2:8] = 85
        for index in range(4, len(tissue_of)):
            row, column = divmod(index - 4, 4)
            atlas[index, 2 + 5 * row : 7 + 5 * row, 2 + 5 * column : 7 + 5 * column, 8:-2] = 255
        levels = np.linspace(0.1, 1, len(tissue_of), dtype=np.float32)
        rank = np.array([folded.get(index, -1) for index in range(len(tissue_of))], np.int8)
        ranges = np.stack([levels, levels], 1)
        model = ReferenceModel(atlas, 4 / 3, tissue_of, rank, ranges, 0.5, (32, 32, 32), 1.5)
        model.save(tmp_path / "reference.npz")
        read = ReferenceModel.load(tmp_path / "reference.npz")
        classes = draw_labels(read, Keystream(bytes(32)))
        reference = draw_reference(model, Keystream(bytes(32)))
        np.testing.assert_array_equal(reference.labels, tissue_of[classes])
        np.testing.assert_array_equal(reference.mask, classes > 0)
        assert set(np.unique(reference.labels)) == set(range(18))
        means = [float(reference.image[classes == index].mean()) for index in range(4, len(tissue_of))]
        assert np.corrcoef(means, levels[4:])[0, 1] > 0.98

    @pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04"])
    def test_a_broken_file_is_named(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "m.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"m\.npz: not a reference model"):
            ReferenceModel.load(tmp_path / "m.npz")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"m\.npz: not a reference model"):
            ReferenceModel.load(tmp_path / "m.npz")


class TestStream:
    def test_known_words(self) -> None:
        # a change here would change every reference that was ever drawn
        stream = Keystream(bytes(range(32)))
        assert stream.uniform(size=3).tolist() == [0.5191545070724464, 0.648164754153205, 0.865114729446133]
        assert Keystream(bytes(range(32))).normal(2) == pytest.approx([-1.1278883, 0.19742134], abs=1e-6)

    def test_moments(self) -> None:
        normal = Keystream(b"n" * 32).normal(200_001)
        assert abs(float(normal.mean())) < 0.01
        assert abs(float(normal.std()) - 1) < 0.01
        uniform = Keystream(b"u" * 32).uniform(2.0, 3.0, 100_000)
        assert uniform.min() >= 2.0
        assert uniform.max() < 3.0
        assert abs(uniform.mean() - 2.5) < 0.01

    def test_the_seed_is_not_shown(self) -> None:
        assert "secret" in repr(Keystream(bytes(32)))

    def test_a_wrong_seed_is_refused(self) -> None:
        with pytest.raises(ValueError, match="seed: expected 32 bytes, got 3"):
            Keystream(b"abc")
