"""Structures are scored side by side: on the wrong side nothing counts."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("monai")

from mixpriv.bundle import Bundle
from mixpriv.client.pipeline import Pipeline, open_pipeline
from mixpriv.client.segment import segment
from mixpriv.datasets import Case, find_heads, kind_of
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.evaluation.evaluator import Evaluator
from mixpriv.evaluation.method_id import NONE, MethodId
from mixpriv.evaluation.methods import Method, Methods, evaluation_key
from mixpriv.labels import Labelling
from mixpriv.protection.modes import Plain
from tests.support.phantom import brain_scan, write_reference_model
from tests.support.toybundle import write_structures_bundle


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = write_structures_bundle(tmp_path_factory.mktemp("structures"))
    write_reference_model(bundle)
    return bundle


@pytest.fixture(scope="module")
def pipeline(structures: Bundle) -> Pipeline:
    segmenter = InProcessSegmenter(structures.segmenter_path)
    return open_pipeline(structures, Plain(), evaluation_key(0), segmenter, noted=False)


def case_of(folder: Path, labels: NDArray[np.uint8], kind: str) -> Case:
    scan, _ = brain_scan()
    anat = folder / "sub-1" / "anat"
    anat.mkdir(parents=True)
    for name, voxels in (("T1w", scan.voxels), (kind, labels)):
        nib.save(nib.Nifti1Image(voxels, scan.affine), anat / f"sub-1_{name}.nii.gz")
    (case,) = find_heads(folder, kind=kind)
    return case


def mean_dice(pipeline: Pipeline, case: Case, *, tissues: bool = False) -> dict[int, float]:
    own = Methods(pipeline.bundle, pipeline.key)
    assert pipeline.segmenter is not None
    evaluator = Evaluator(own, pipeline.segmenter, [Method(MethodId(NONE), Plain())], tissues=tissues)
    return {score.label: score.dice for score in evaluator.evaluate(case)}


@pytest.fixture(scope="module")
def labels(pipeline: Pipeline) -> NDArray[np.uint8]:
    """What the client makes of the phantom."""
    return segment(brain_scan()[0], pipeline).labels


def test_structures_are_compared_with_the_map_that_has_them(
    structures: Bundle, pipeline: Pipeline, labels: NDArray[np.uint8], tmp_path: Path
) -> None:
    horns = np.where(labels == 4, 5, labels)  # an inferior horn is a part of the ventricle
    found = mean_dice(pipeline, case_of(tmp_path, horns, kind_of(structures)))
    assert found == dict.fromkeys(range(1, 6), 1.0)


def test_the_wrong_side_counts_for_nothing(
    structures: Bundle, pipeline: Pipeline, labels: NDArray[np.uint8], tmp_path: Path
) -> None:
    swapped = np.arange(256, dtype=np.uint8)
    swapped[[2, 3, 4, 11, 41, 42, 43, 50]] = [41, 42, 43, 50, 2, 3, 4, 11]
    found = mean_dice(pipeline, case_of(tmp_path, swapped[labels], kind_of(structures)))
    assert found == {1: 0, 2: 0, 3: 0, 4: 0, 5: 1}  # the last has no sides


def test_where_the_truth_has_another_structure_nothing_is_scored(
    structures: Bundle, pipeline: Pipeline, labels: NDArray[np.uint8], tmp_path: Path
) -> None:
    other = labels.copy()
    other[:, :36][labels[:, :36] == 2] = 85
    found = mean_dice(pipeline, case_of(tmp_path, other, kind_of(structures)))
    assert found == dict.fromkeys(range(1, 6), 1.0)


def test_tissues_are_compared_with_the_map_of_tissues(
    structures: Bundle, pipeline: Pipeline, labels: NDArray[np.uint8], tmp_path: Path
) -> None:
    tissues = np.array([0, 1, 1, 1, 2, 2], np.uint8)[Labelling.of(structures).classes_of(labels)]
    found = mean_dice(pipeline, case_of(tmp_path, tissues, "dseg"), tissues=True)
    assert set(found) == {1, 2}
    assert min(found.values()) > 0.9
