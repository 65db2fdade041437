from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixpriv import kernels
from mixpriv.client.pipeline import Pipeline
from mixpriv.imaging.resample import Conformed, Grid
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.mixing import draw_weight, mix, normalised
from mixpriv.protection.reference import Reference
from mixpriv.protection.unmixing import Unmixer, linear_unmix, unpack_probabilities, unwarp
from mixpriv.protection.warp import draw_warp

SHAPE = (16, 16, 32)
CLASSES = 6


def box(random: np.random.Generator) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    low = random.integers(0, 8, 3)
    mask[tuple(slice(a, a + 8) for a in low)] = 1
    return mask


def target_and_reference(seed: int = 0) -> tuple[Conformed, Reference]:
    random = np.random.default_rng(seed)
    masks = box(random), box(random)
    image = random.normal(500, 200, SHAPE).astype(np.float32)
    target = Conformed(image[None], masks[0], ((100.0, 900.0),), Grid(SHAPE, np.eye(4)))
    labels = random.integers(1, CLASSES, SHAPE).astype(np.uint8) * masks[1]
    return target, Reference(random.random((1, *SHAPE), np.float32), labels, masks[1])


def answer_to(weight: float, labels: np.ndarray, reference_labels: np.ndarray) -> np.ndarray:
    """What a perfect segmenter would answer."""
    exact = weight * np.eye(CLASSES)[labels] + (1 - weight) * np.eye(CLASSES)[reference_labels]
    return np.ascontiguousarray(np.moveaxis(np.rint(255 * exact), -1, 0)[1:].astype(np.uint8))


class TestWeight:
    @given(st.binary(min_size=32, max_size=32))
    def test_lies_in_the_range(self, seed: bytes) -> None:
        assert 0.3 <= draw_weight(seed, (0.3, 0.7)) < 0.7

    def test_is_uniform_and_repeatable(self) -> None:
        seeds = [np.random.default_rng(n).bytes(32) for n in range(2000)]
        drawn = np.array([draw_weight(seed, (0.0, 1.0)) for seed in seeds])
        np.testing.assert_allclose(np.quantile(drawn, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.04)
        assert drawn[7] == draw_weight(seeds[7], (0.0, 1.0))


class TestMix:
    @given(st.integers(0, 1000), st.floats(0.05, 0.95))
    def test_is_the_formula(self, seed: int, weight: float) -> None:
        target, reference = target_and_reference(seed)
        own = np.clip((target.image.astype(np.float64) - 100) / 800, 0, 1) * target.mask
        expected = weight * own + (1 - weight) * reference.image * reference.mask
        np.testing.assert_allclose(mix(target, reference, weight)[0], expected, atol=1e-3)

    def test_a_warp_bends_target_and_reference_alike(self) -> None:
        target, reference = target_and_reference()
        warp = draw_warp(Keystream(bytes(32)), SHAPE, 2.0, 1.5)
        straight = mix(target, reference, 0.4)[0].astype(np.float32)
        expected = kernels.warp(straight[None], *warp.forward)[0]
        bent = mix(target, reference, 0.4, warp)[0]
        assert bent.dtype == np.float16
        np.testing.assert_allclose(bent, expected, atol=2e-3)
        assert np.abs(bent - straight).max() > 0.1

    @given(st.integers(0, 1000))
    def test_zero_outside_the_union(self, seed: int) -> None:
        target, reference = target_and_reference(seed)
        mixture = mix(target, reference, 0.5)[0]
        assert not mixture[(target.mask == 0) & (reference.mask == 0)].any()
        assert not normalised(target)[0][target.mask == 0].any()


class TestUnmix:
    @given(st.integers(0, 1000), st.floats(0.35, 0.95))
    def test_the_linear_baseline_inverts_a_perfect_answer(self, seed: int, weight: float) -> None:
        random = np.random.default_rng(seed)
        labels, known = (random.integers(0, CLASSES, SHAPE).astype(np.uint8) for _ in range(2))
        shares = linear_unmix(answer_to(weight, labels, known), known, weight)
        np.testing.assert_array_equal(shares.argmax(axis=0), labels)
        np.testing.assert_allclose(shares.sum(axis=0), 1, atol=0.06)
        assert shares.min() == 0

    def test_the_network_is_given_the_linear_unmixing(self, pipeline: Pipeline) -> None:
        random = np.random.default_rng(0)
        labels, known = (random.integers(0, CLASSES, SHAPE).astype(np.uint8) for _ in range(2))
        probabilities = pipeline.network(answer_to(0.6, labels, known), known, 0.6, np.zeros((1, *SHAPE), np.float16))
        np.testing.assert_array_equal(probabilities.argmax(axis=0), labels)

    def test_a_further_reference_leaves_the_result_of_the_one_before(self, pipeline: Pipeline) -> None:
        random = np.random.default_rng(0)
        one, other, known = (random.integers(0, CLASSES, SHAPE).astype(np.uint8) for _ in range(3))
        target = np.zeros((1, *SHAPE), np.float16)
        first = pipeline.network(answer_to(0.6, one, known), known, 0.6, target)
        second = pipeline.network(answer_to(0.5, other, known), known, 0.5, target)
        np.testing.assert_array_equal(first.argmax(axis=0), one)
        np.testing.assert_array_equal(second.argmax(axis=0), other)

    def test_one_that_sees_the_target_is_shown_it(self) -> None:
        seen: dict[str, np.ndarray] = {}

        def network(**inputs: np.ndarray) -> dict[str, np.ndarray]:
            seen.update(inputs)
            return {"correction": np.zeros((1, 8 * CLASSES, *(n // 2 for n in SHAPE)), np.float32)}

        labels = np.ones(SHAPE, np.uint8)
        target = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float16)
        for sees, names in ((False, {"unmixer_input"}), (True, {"unmixer_input", "target"})):
            seen.clear()
            Unmixer(network, CLASSES, 5.0, sees)(answer_to(0.5, labels, labels), labels, 0.5, target)
            assert set(seen) == names
        np.testing.assert_array_equal(seen["target"], target.astype(np.float32)[None])

    def test_a_bent_answer_is_straightened(self) -> None:
        shape = (32, 40, 32)
        labels = np.zeros(shape, np.uint8)
        labels[8:20, 10:30, 8:24] = 1
        warp = draw_warp(Keystream(bytes(32)), shape, 3.0, 1.5)
        bent = kernels.warp(np.stack([labels == 0, labels == 1]).astype(np.float32), *warp.forward)
        straight = unwarp(np.rint(255 * bent[1:]).astype(np.uint8), warp)
        assert straight.dtype == np.uint8
        assert ((straight[0] > 127) == (labels == 1)).mean() > 0.99

    def test_a_plain_answer_is_its_probabilities(self) -> None:
        labels = np.random.default_rng(0).integers(0, CLASSES, SHAPE)
        probabilities = unpack_probabilities(answer_to(1.0, labels, labels))
        np.testing.assert_array_equal(probabilities, np.moveaxis(np.eye(CLASSES)[labels], -1, 0))


def test_a_target_never_shows_its_image() -> None:
    target, _ = target_and_reference()
    assert repr(target) == f"Conformed(grid=Grid(shape={SHAPE}))"
    with pytest.raises(AttributeError, match="cannot assign"):
        target.mask = target.mask  # type: ignore[misc]
