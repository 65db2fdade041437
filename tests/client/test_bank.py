from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.client.bank import Bank
from mixpriv.client.pipeline import Pipeline
from mixpriv.client.segment import segment
from mixpriv.errors import InputError
from mixpriv.imaging.volume import Volume
from mixpriv.protection.modes import Mixup, Plain
from tests.support.phantom import brain_scan
from tests.support.pipelines import using


def labelled(person: int = 0) -> tuple[Volume, Volume]:
    scan, truth = brain_scan(person=person)
    return scan, Volume(np.asfortranarray(truth, np.float32), scan.affine, scan.header, "labels")


def add(pipeline: Pipeline, bundle: Bundle, person: int = 0) -> str:
    return Bank.of(bundle).add(*labelled(person), pipeline.preprocess, bundle, pipeline.key)


class TestAdding:
    def test_is_conformed_and_private(self, pipeline: Pipeline, bundle: Bundle) -> None:
        name = add(pipeline, bundle)
        bank = Bank.of(bundle)
        assert bank.names() == [name]
        reference = bank.load(name)
        assert reference.image.shape == reference.labels.shape == reference.mask.shape == bundle.grid_shape
        assert not reference.image[reference.mask == 0].any()
        assert not reference.labels[reference.mask == 0].any()
        assert set(np.unique(reference.labels)) == {0, 1, 2, 3, 4, 5}
        assert 0 <= reference.image.min() < 0.1
        assert 0.9 < reference.image.max() <= 1
        for path in (bank.folder, bank.folder.parent):
            assert path.stat().st_mode & 0o777 == 0o700
        assert (bank.folder / f"{name}.npz").stat().st_mode & 0o777 == 0o600

    def test_labels_lie_on_the_image(self, pipeline: Pipeline, bundle: Bundle) -> None:
        reference = Bank.of(bundle).load(add(pipeline, bundle))
        levels = [float(np.median(reference.image[reference.labels == value])) for value in (1, 3, 2, 4, 5)]
        assert levels == sorted(levels, reverse=True)

    def test_twice(self, pipeline: Pipeline, bundle: Bundle) -> None:
        name = add(pipeline, bundle)
        with pytest.raises(InputError, match=f"is in the reference bank already, as {name}"):
            add(pipeline, bundle)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda v, a: (v[:-1], a), r"labels: expected shape \(60, 72, 60\) as the scan, got \(59, 72, 60\)"),
            (
                lambda v, a: (v, np.vstack((a[:3] + 0.1, a[3:]))),
                "labels: expected the same affine as the scan, got another",
            ),
            (lambda v, a: (v * 2, a), "labels: expected labels 0 to 5, got others"),
            (lambda v, a: (v * 0.5, a), "labels: expected labels 0 to 5, got others"),
        ],
    )
    def test_pairs_that_do_not_fit(
        self, change: Callable[..., tuple[np.ndarray, np.ndarray]], message: str, pipeline: Pipeline, bundle: Bundle
    ) -> None:
        scan, labels = labelled()
        voxels, affine = change(labels.voxels, labels.affine)
        with pytest.raises(InputError, match=message):
            Bank.of(bundle).add(scan, Volume(voxels, affine, None, "labels"), pipeline.preprocess, bundle, pipeline.key)
        assert not Bank.of(bundle).folder.exists()


class TestUse:
    OPTIONS = Mixup(source="bank")

    def mixture(self, pipeline: Pipeline, person: int) -> NDArray[np.float16]:
        return segment(brain_scan(person=person)[0], using(pipeline, self.OPTIONS)).exchanges[0].sent

    def test_once_at_most_but_again_for_the_same_scan(self, pipeline: Pipeline, bundle: Bundle) -> None:
        for person in (10, 11):
            add(pipeline, bundle, person)
        first, second = self.mixture(pipeline, 1), self.mixture(pipeline, 2)
        assert not np.array_equal(first, second)
        np.testing.assert_array_equal(self.mixture(pipeline, 1), first)
        with pytest.raises(InputError, match="expected 1 unused references for this scan, got 0"):
            self.mixture(pipeline, 3)

    def test_never_the_scan_itself_nor_another_of_the_person(self, pipeline: Pipeline, bundle: Bundle) -> None:
        add(pipeline, bundle, 1)
        again, _ = brain_scan(person=1, seed=7)
        for scan in (brain_scan(person=1)[0], again):
            with pytest.raises(InputError, match="expected 1 unused references for this scan, got 0"):
                segment(scan, using(pipeline, self.OPTIONS))
        other = Bank.of(bundle).load(add(pipeline, bundle, 2)).image
        plain = segment(again, using(pipeline, Plain())).exchanges[0].sent
        mixture = segment(again, using(pipeline, Mixup(0.5, source="bank"))).exchanges[0].sent
        np.testing.assert_allclose(mixture[0], 0.5 * plain[0].astype(np.float32) + 0.5 * other, atol=2**-10)
        assert np.abs(plain[0] - other).max() > 0.2

    def test_too_few_references_are_told_before_anything_is_noted_or_sent(
        self, pipeline: Pipeline, bundle: Bundle
    ) -> None:
        for person in (10, 11):
            add(pipeline, bundle, person)
        with pytest.raises(InputError, match="expected 3 unused references for this scan, got 2"):
            segment(brain_scan(person=1)[0], using(pipeline, Mixup(references=3, source="bank")))
        assert pipeline.ledger.entries() == []
        assert pipeline.ledger.spent() == set()

    def test_an_empty_bank(self, pipeline: Pipeline) -> None:
        with pytest.raises(InputError, match="expected 1 unused references for this scan, got 0"):
            self.mixture(pipeline, 1)

    def test_a_damaged_reference(self, pipeline: Pipeline, bundle: Bundle) -> None:
        (Bank.of(bundle).folder / f"{add(pipeline, bundle)}.npz").write_bytes(b"PK\x03\x04 damaged")
        with pytest.raises(InputError, match=r"\.npz: not a reference \(BadZipFile\)"):
            self.mixture(pipeline, 1)
