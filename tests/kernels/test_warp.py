"""Warps by a control grid, against the dense B-spline in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mixpriv import kernels
from tests.kernels import definitions as numpy_is
from tests.kernels.definitions import ISAS, THREADS, Array, forced

SHAPES = st.tuples(*[st.integers(1, 11)] * 3)
SEEDS = st.integers(0, 2**32)
KNOTS = st.floats(0.7, 20)
TOLERANCE = 2e-5
"""Of values up to 1, for displacements up to about 8 voxels: 2**-24 of the displacement times 16 weights."""


def random_control(rng: np.random.Generator, shape: tuple[int, ...], knots: float, extra: int = 0) -> Array:
    points = [n + extra for n in numpy_is.control_shape(shape, knots)]
    size = rng.choice([0.0, 0.3, 2.0, 8.0])
    return rng.normal(0, size, (3, *points)).clip(-8, 8).astype(np.float32)


def probabilities(rng: np.random.Generator, classes: int, shape: tuple[int, ...]) -> Array:
    shares = rng.random((classes, *shape)) ** 4 + 1e-3
    return np.ascontiguousarray(shares / shares.sum(axis=0), np.float32)


@pytest.mark.parametrize("isa", ISAS)
class TestWarp:
    @given(seed=SEEDS, shape=SHAPES, knots=KNOTS, channels=st.integers(1, 3), fill=st.booleans())
    def test_is_the_definition(
        self, isa: str, seed: int, shape: tuple[int, int, int], knots: float, channels: int, fill: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        control = random_control(rng, shape, knots, extra=seed % 2)
        image = probabilities(rng, channels, shape)
        expected, certain = numpy_is.warp(image, control, knots, fill)
        with forced(isa):
            got = kernels.warp(image, control, knots, fill_background=fill)
        np.testing.assert_allclose(got[:, certain], expected[:, certain], atol=TOLERANCE)

    @given(seed=SEEDS, shape=SHAPES, knots=KNOTS, channels=st.integers(1, 9))
    def test_an_answer_is_the_definition_rounded(
        self, isa: str, seed: int, shape: tuple[int, int, int], knots: float, channels: int
    ) -> None:
        rng = np.random.default_rng(seed)
        control = random_control(rng, shape, knots)
        answer = rng.integers(0, 256, (channels, *shape), np.uint8)
        expected, certain = numpy_is.warp(answer, control, knots)
        with forced(isa):
            got = kernels.warp_answer(answer, control, knots)
        assert got.dtype == np.uint8
        assert (np.abs(got[:, certain] - expected[:, certain]) <= 0.5 + 255 * TOLERANCE).all()

    @given(seed=SEEDS, shape=SHAPES, knots=KNOTS)
    def test_labels_are_the_definition(self, isa: str, seed: int, shape: tuple[int, int, int], knots: float) -> None:
        rng = np.random.default_rng(seed)
        control = random_control(rng, shape, knots)
        labels = rng.integers(0, 255, shape, np.uint8)
        expected, certain = numpy_is.warp_labels(labels, control, knots)
        with forced(isa):
            got = kernels.warp_labels(labels, control, knots)
        np.testing.assert_array_equal(got[certain], expected[certain])

    def test_an_answer_is_rounded_to_the_nearest_ties_upwards(self, isa: str) -> None:
        control = np.zeros((3, 4, 4, 6), np.float32)
        control[2] = 0.5
        with forced(isa):
            got = kernels.warp_answer(np.array([[[[0, 1, 255]]]], np.uint8), control, 1.0)
        np.testing.assert_array_equal(got, [[[[1, 128, 0]]]])

    def test_no_displacement_changes_nothing(self, isa: str) -> None:
        image = (np.random.default_rng(0).integers(0, 256, (2, 7, 8, 150)) / 256).astype(np.float32)
        labels = (image[0] * 256).astype(np.uint8)
        control = np.zeros((3, *numpy_is.control_shape(labels.shape, 3.5)), np.float32)
        with forced(isa):
            np.testing.assert_array_equal(kernels.warp(image, control, 3.5), image)
            np.testing.assert_array_equal(kernels.warp_labels(labels, control, 3.5), labels)
            np.testing.assert_array_equal(kernels.warp_answer(labels[None], control, 3.5)[0], labels)

    @pytest.mark.parametrize(
        ("shift", "values", "labels"),
        [
            (0.0, [1, 2, 4], [1, 2, 4]),
            (0.5, [1.5, 3, 0], [2, 4, 0]),  # half-way goes up, and there nothing is left
            (-0.5, [0, 1.5, 3], [1, 2, 4]),
            (0.25, [1.25, 2.5, 0], [1, 2, 4]),
            (2.0, [4, 0, 0], [4, 0, 0]),
            (-7.0, [0, 0, 0], [0, 0, 0]),
        ],
    )
    def test_edge(self, isa: str, shift: float, values: list[float], labels: list[int]) -> None:
        control = np.zeros((3, 4, 4, 6), np.float32)
        control[2] = shift  # the weights of equal control points sum to 1
        with forced(isa):
            got = kernels.warp(np.array([[[[1, 2, 4]]]], np.float32), control, 1.0)
            nearest = kernels.warp_labels(np.array([[[1, 2, 4]]], np.uint8), control, 1.0)
        np.testing.assert_allclose(got[0, 0, 0], values, rtol=1e-6)
        np.testing.assert_array_equal(nearest[0, 0], labels)


def test_every_instruction_set_and_thread_count_gives_the_same_bits() -> None:
    rng = np.random.default_rng(1)
    shape = (33, 41, 150)
    control = random_control(rng, shape, 7.3)
    image, labels = probabilities(rng, 3, shape), rng.integers(0, 9, shape, np.uint8)
    answers = rng.integers(0, 256, (9, *shape), np.uint8)
    answers[:, :, 10:] = 0  # most of an answer is background, which is passed over
    results = set()
    for isa in [p.values[0] for p in ISAS if not p.marks[0].args[0]]:
        with forced(str(isa)):
            for threads in THREADS:
                moved = kernels.warp(image, control, 7.3, fill_background=True, threads=threads)
                nearest = kernels.warp_labels(labels, control, 7.3, threads=threads)
                answer = kernels.warp_answer(answers, control, 7.3, threads=threads)
                back, _ = kernels.invert_warp(control, 7.3, shape, threads=threads)
                results.add(moved.tobytes() + nearest.tobytes() + answer.tobytes() + back.tobytes())
    assert len(results) == 1


@given(seed=SEEDS, shape=SHAPES, knots=KNOTS)
def test_an_inverse_is_the_definition(seed: int, shape: tuple[int, int, int], knots: float) -> None:
    rng = np.random.default_rng(seed)
    # neighbours differ by less than a third of their distance on each axis: a difference at the start does not grow
    control = rng.uniform(-0.15, 0.15, (3, *numpy_is.control_shape(shape, knots))).astype(np.float32) * knots
    control = control.astype(np.float32)
    got, got_knots = kernels.invert_warp(control, knots, shape)
    expected, expected_knots = numpy_is.invert_warp(control, knots, shape)
    assert got_knots == expected_knots
    np.testing.assert_allclose(got, expected, atol=1e-4 * knots)


def test_an_inverse_leads_back() -> None:
    shape, knots = (40, 44, 48), 8.0
    control = ndimage.gaussian_filter(random_control(np.random.default_rng(0), shape, knots), (0, 1, 1, 1))
    back = numpy_is.displacement(*kernels.invert_warp(control, knots, shape), shape)
    forth = numpy_is.displacement(control, knots, shape)
    rest = back + np.stack([ndimage.map_coordinates(u, np.indices(shape) + back, order=1) for u in forth])
    inner = (slice(None), *(slice(8, -8),) * 3)
    assert np.abs(forth[inner]).max() > 0.5
    assert np.abs(rest[inner]).max() < 0.05 * np.abs(forth[inner]).max()


@given(seed=SEEDS, shape=SHAPES)
def test_filled_probabilities_sum_to_one(seed: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    control = random_control(rng, shape, 4.0)
    got = kernels.warp(probabilities(rng, 4, shape), control, 4.0, fill_background=True)
    np.testing.assert_allclose(got.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@given(seed=SEEDS, shape=SHAPES, weight=st.floats(0, 1), knots=KNOTS, alone=st.booleans())
def test_mix_warps_on_the_way(
    isa: str, seed: int, shape: tuple[int, int, int], weight: float, knots: float, alone: bool
) -> None:
    rng = np.random.default_rng(seed)
    target, reference = rng.uniform(-0.2, 1.2, (2, *shape)).astype(np.float32) * np.float32([[[[900]]], [[[1]]]])
    masks = rng.integers(0, 3, (2, *shape), np.uint8)
    control = random_control(rng, shape, knots)
    others = (None, None, 1.0) if alone else (reference, masks[1], weight)
    expected, certain = numpy_is.mix_warped(target, masks[0], (20.0, 800.0), *others, control, knots)
    results = set()
    with forced(isa):
        for threads in THREADS:
            got = kernels.mix(target, masks[0], (20.0, 800.0), *others, warp=(control, knots), threads=threads)
            results.add(got.tobytes())
    assert len(results) == 1
    np.testing.assert_allclose(got.astype(np.float64)[certain], expected[certain], atol=2**-12 + TOLERANCE)


def test_mix_without_displacement_is_mix() -> None:
    rng = np.random.default_rng(2)
    shape = (9, 10, 140)
    target, reference = (rng.integers(0, 257, (2, *shape)) / 256).astype(np.float32)  # interpolate without rounding
    mask = rng.integers(0, 2, shape, np.uint8)
    still = (np.zeros((3, *numpy_is.control_shape(shape, 5.0)), np.float32), 5.0)
    straight = kernels.mix(target, mask, (0.0, 1.0), reference, mask, 0.4)
    warped = kernels.mix(target, mask, (0.0, 1.0), reference, mask, 0.4, warp=still)
    np.testing.assert_array_equal(warped, straight)
