"""A mode is one object: client, audit and evaluation send what it makes, and a new one needs one class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from mixpriv.audit.cohort import Visit
from mixpriv.audit.context import Budget, Context, template_of
from mixpriv.audit.linkage import Linker
from mixpriv.audit.phantoms import phantom_cohort, phantom_environment
from mixpriv.audit.registry import find
from mixpriv.audit.simulation import Environment, send, served
from mixpriv.bundle import Bundle
from mixpriv.client.pipeline import Pipeline
from mixpriv.client.segment import segment
from mixpriv.datasets import Case
from mixpriv.imaging.resample import Conformed
from mixpriv.imaging.volume import load_volume
from mixpriv.key import content_digest
from mixpriv.protection.draws import KeyedDraws
from mixpriv.protection.mixing import normalised
from mixpriv.protection.modes import (
    Answer,
    ClientNetwork,
    Local,
    Mixup,
    Mode,
    Plain,
    Probabilities,
    Protected,
    Secret,
    Shielded,
)
from mixpriv.protection.rivals import Noisy, Warped
from mixpriv.protection.unmixing import unpack_probabilities
from mixpriv.timing import Timings
from tests.support.phantom import brain_scan
from tests.support.pipelines import Elsewhere, using


@dataclass(frozen=True)
class Turned:
    """A fifth mode: the scan upside down."""

    name: str = field(default="turned", init=False)
    count: int = field(default=1, init=False)
    unmixes: bool = field(default=False, init=False)

    def require(self, bundle: Bundle) -> None:
        pass

    def requests(self, conformed: Callable[[], Conformed], draws: KeyedDraws) -> Iterator[Protected]:
        yield Protected(np.ascontiguousarray(normalised(conformed())[..., ::-1]), Secret())

    def reveal(
        self, conformed: Conformed, answers: Sequence[Answer], secrets: Sequence[Secret], network: ClientNetwork | None
    ) -> Probabilities:
        return unpack_probabilities(np.ascontiguousarray(answers[0][..., ::-1]))


MODES: list[Mode] = [
    Plain(), Mixup(), Mixup(0.5), Mixup(references=3), Shielded(), Shielded(0.2, 3.0, check=False),
    Warped(4.0), Noisy(0.1), Turned(),
]  # fmt: skip


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A scan and its labels on disk."""
    scan, labels = brain_scan()
    image, truth = tmp_path / "sub-1_T1w.nii.gz", tmp_path / "sub-1_dseg.nii.gz"
    nib.Nifti1Image(scan.voxels, scan.affine).to_filename(image)
    nib.Nifti1Image(labels, scan.affine).to_filename(truth)
    return Case("sub-1", "sub-1", image, truth)


def watched(pipeline: Pipeline, mode: Mode) -> tuple[Pipeline, Elsewhere]:
    """The pipeline in a mode, and what keeps what its server sees."""
    assert pipeline.segmenter is not None
    server = Elsewhere(pipeline.segmenter)
    return using(replace(pipeline, segmenter=server), mode), server


def sent_by_evaluation(pipeline: Pipeline, mode: Mode, case: Case) -> list[NDArray[np.float16]]:
    pytest.importorskip("monai")
    from mixpriv.evaluation.evaluator import Evaluator
    from mixpriv.evaluation.method_id import MethodId
    from mixpriv.evaluation.methods import Method, Methods

    assert pipeline.segmenter is not None
    server = Elsewhere(pipeline.segmenter)
    own = Methods(pipeline.bundle, pipeline.key)
    assert list(Evaluator(own, server, [Method(MethodId(mode.name), mode)]).evaluate(case))
    return server.seen


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_audit_and_evaluation_send_what_the_client_sends(pipeline: Pipeline, mode: Mode, case: Case) -> None:
    client, server = watched(pipeline, mode)
    scan = load_volume(case.scan)
    exchanges = segment(scan, client).exchanges
    bytes_sent = [image.tobytes() for image in server.seen]
    assert [exchange.sent.tobytes() for exchange in exchanges] == bytes_sent
    assert len(set(bytes_sent)) == mode.count

    conformed = pipeline.preprocess(scan, Timings())
    visit = Visit("sub-1", "sub-1", content_digest(scan.voxels, scan.affine), conformed)
    model = pipeline.reference_model
    assert model is not None
    environment = Environment(pipeline.bundle, len(pipeline.bundle.classes), model, served(server))
    first = send(mode, visit, environment, pipeline.key, answer=True)
    assert first.image.tobytes() == bytes_sent[0]
    assert server.seen[-1].tobytes() == bytes_sent[0]

    assert [image.tobytes() for image in sent_by_evaluation(pipeline, mode, case)] == bytes_sent


def test_another_key_sends_another_mixture(pipeline: Pipeline, case: Case) -> None:
    seen = []
    for key in (pipeline.key, type(pipeline.key)(bytes(32))):
        client, server = watched(replace(pipeline, key=key, allow_repeat=True), Mixup())
        segment(load_volume(case.scan), client)
        seen.append(server.seen[0].tobytes())
    assert seen[0] != seen[1]


def test_mode_local_makes_no_request(pipeline: Pipeline) -> None:
    conformed = pipeline.preprocess(brain_scan()[0], Timings())
    assert list(Local().requests(lambda: conformed, pipeline.draws(bytes(32)))) == []


class TestAFifthMode:
    def test_the_client_segments_by_it(self, pipeline: Pipeline, case: Case) -> None:
        scan = load_volume(case.scan)
        turned, server = watched(pipeline, Turned())
        found = segment(scan, turned)
        np.testing.assert_array_equal(found.labels, segment(scan, using(pipeline, Plain())).labels)
        assert found.exchanges[0].sent.tobytes() == server.seen[0].tobytes()
        assert turned.ledger is not None
        assert turned.ledger.entries()[0].mode == "turned"

    def test_the_audit_attacks_it(self) -> None:
        environment = phantom_environment(8.0)
        cohort = phantom_cohort(environment, 6, 2)
        linker = Linker.of([visit.image for visit in cohort.gallery], environment.spacing_mm)
        budget = Budget(queries=2)
        context = Context(environment, cohort, "turned", Turned(), linker, template_of(cohort), budget)
        outcome = find("A1").run(context)
        assert {finding.mode for finding in outcome.findings} == {"turned"}
        assert not any((context.mixes, context.warps, context.draws_weights))

    def test_the_evaluation_measures_it(self, pipeline: Pipeline, case: Case) -> None:
        pytest.importorskip("monai")
        from mixpriv.evaluation.evaluator import Evaluator
        from mixpriv.evaluation.method_id import MethodId
        from mixpriv.evaluation.methods import Method, Methods

        assert pipeline.segmenter is not None
        tried = [Method(MethodId(mode.name), mode) for mode in (Plain(), Turned())]
        evaluator = Evaluator(Methods(pipeline.bundle, pipeline.key), pipeline.segmenter, tried)
        scores = list(evaluator.evaluate(case))
        dice = {name: [s.dice for s in scores if s.method == MethodId(name)] for name in ("none", "turned")}
        assert dice["none"] == dice["turned"]
        assert dice["none"][0] > 0.95
        assert evaluator.costs[MethodId("turned")].sent == 2 * int(np.prod(pipeline.bundle.grid_shape))
