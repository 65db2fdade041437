"""Images that another tool protected: found beside their originals, linked as they are, and nothing missing goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mixpriv.audit.attacks import linkage
from mixpriv.audit.cohort import Cohort, Visit, mirror, simulate
from mixpriv.audit.context import Context
from mixpriv.audit.linkage import Linker
from mixpriv.audit.protected import Images, read_protected
from mixpriv.audit.simulation import send
from mixpriv.errors import InputError
from mixpriv.imaging.resample import Conformed, Grid
from mixpriv.imaging.volume import Volume
from mixpriv.key import ClientKey
from mixpriv.timing import Timings
from tests.audit.conftest import BUDGET, Stage

AFFINE = np.diag([6.0, 6.0, 6.0, 1.0])


def conform(volume: Volume, _stages: Timings) -> Conformed:
    image = np.ascontiguousarray(volume.voxels)
    if image.max() > 50:
        raise InputError("no brain")
    d, h, w = image.shape
    return Conformed(image[None], (image > 0).astype(np.uint8), ((0.0, 1.0),), Grid((d, h, w), AFFINE))


def write(folder: Path, visits: list[Visit], change: float = 1.0, add: float = 0.0) -> Path:
    for number, visit in enumerate(visits):
        path = folder / f"sub-{number:02d}" / f"sub-{number:02d}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(visit.image * np.float32(change) + np.float32(add), AFFINE), path)
    return folder


@pytest.fixture
def visits(stage: Stage) -> list[Visit]:
    return list(stage.cohort.gallery)


def test_are_sent_as_they_are(tmp_path: Path, visits: list[Visit], stage: Stage) -> None:
    originals, protected = write(tmp_path / "o", visits), write(tmp_path / "p", visits, 0.5)
    images = read_protected("half", protected, originals, visits, conform)
    for key in (bytes(32), bytes(range(32))):
        sent = send(images, visits[1], stage.environment, ClientKey(key))
        assert np.allclose(sent.image, visits[1].image / 2, atol=1e-3)
    made_up = send(images, mirror(visits[1]), stage.environment, ClientKey(bytes(32)))
    assert np.allclose(made_up.image, visits[1].image[::-1] / 2, atol=1e-3)


def test_without_a_brain_take_the_originals_place(tmp_path: Path, visits: list[Visit]) -> None:
    originals, protected = write(tmp_path / "o", visits), write(tmp_path / "p", visits, 100.0, 60.0)
    images = read_protected("bright", protected, originals, visits, conform)
    inside = visits[0].conformed.mask > 0
    assert np.corrcoef(images.images[visits[0].content][0][inside], visits[0].image[inside])[0, 1] > 0.95


def test_that_is_missing_is_named(tmp_path: Path, visits: list[Visit], stage: Stage) -> None:
    originals, protected = write(tmp_path / "o", visits), write(tmp_path / "p", visits[1:])
    with pytest.raises(InputError, match=r"sub-\d\d_T1w\.nii\.gz: expected the protected image of .*, got none"):
        read_protected("half", protected, originals, visits, conform)
    with pytest.raises(InputError, match="half: expected a protected image of each scan that is attacked"):
        send(Images("half", {}), visits[0], stage.environment, ClientKey(bytes(32)))


def test_are_attacked_like_any_mode(visits: list[Visit], stage: Stage) -> None:
    """What is left alone is linked; noise is not. It is the originals that are attacked, not rescans of them."""
    cohort: Cohort = simulate(visits, 2, 1, as_is=True)
    assert {visit.content for visit in cohort.queries} <= {visit.content for visit in visits}
    random = np.random.default_rng(0)
    every = [*cohort.queries, *cohort.known]
    images = {
        "left alone": {visit.content: visit.image.astype(np.float16)[None] for visit in every},
        "noise": {visit.content: random.random((1, *visit.image.shape)).astype(np.float16) for visit in every},
    }
    linker = Linker.of([visit.image for visit in cohort.gallery], stage.environment.spacing_mm)
    found = {}
    for name, own in images.items():
        context = Context(stage.environment, cohort, name, Images(name, own), linker, stage.template,
                          replace(BUDGET, queries=3))  # fmt: skip
        outcome = linkage.run(context)
        found[name] = next(one.value for one in outcome.findings if one.figure == "rank-1, best way")
    assert found["left alone"] == 1.0
    assert found["noise"] < 0.8
