"""Is a mixture too much like its own scan? Then it is drawn again, and never sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mixpriv.bundle import Impostors
from mixpriv.client.pipeline import Pipeline
from mixpriv.client.segment import Prepared, finish, prepare, segment
from mixpriv.errors import InputError
from mixpriv.key import content_digest
from mixpriv.protection.mixing import mix, normalised
from mixpriv.protection.modes import Mixup, Protected, Secret, Shielded
from mixpriv.reid.check import MOST_DRAWS, SimilarityCheck
from mixpriv.timing import Timings
from tests.support.phantom import brain_scan
from tests.support.pipelines import Elsewhere, using

SHIELDED = Shielded(0.5)


def with_limit(pipeline: Pipeline, limit: float, std: float = 1.0) -> Pipeline:
    """A pipeline in mode shielded whose bundle knows impostors."""
    assert pipeline.bundle.shielded is not None
    shielded = replace(pipeline.bundle.shielded, impostors=Impostors(0.2, std, limit))
    return using(replace(pipeline, bundle=replace(pipeline.bundle, shielded=shielded)), SHIELDED)


def remote(pipeline: Pipeline) -> Pipeline:
    assert pipeline.segmenter is not None
    return replace(pipeline, segmenter=Elsewhere(pipeline.segmenter))


def first(pipeline: Pipeline) -> tuple[Prepared, Protected]:
    prepared = prepare(brain_scan()[0], pipeline, Timings())
    assert prepared.first is not None
    return prepared, prepared.first


def draw(pipeline: Pipeline, number: int) -> Secret:
    """What is drawn for the phantom the given time."""
    scan = brain_scan()[0]
    draws = pipeline.draws(content_digest(scan.voxels, scan.affine))
    assert pipeline.bundle.shielded is not None
    warp_mm = pipeline.bundle.shielded.warp_mm
    purpose = f"shielded/{pipeline.bundle.fingerprint}/0.5/{warp_mm} mm"
    return Secret(draws.reference(purpose, number), 0.5, draws.warp(purpose, warp_mm, number))


def same_warp(one: Secret, other: Secret) -> bool:
    assert one.warp is not None
    assert other.warp is not None
    return np.array_equal(one.warp.forward[0], other.warp.forward[0])


def test_a_scan_is_most_similar_to_itself(pipeline: Pipeline) -> None:
    image = normalised(first(with_limit(pipeline, 5.0))[0].conformed)
    known = SimilarityCheck.of(image, pipeline.bundle.spacing_mm)
    assert known.similarity(image) == pytest.approx(1.0, abs=1e-4)
    noise = np.random.default_rng(0).random(image.shape).astype(np.float32) * (image > 0)
    assert known.similarity(noise) < 0.9 * known.similarity(0.5 * image.astype(np.float32) + 0.5 * noise)
    assert known.risk(image, Impostors(0.2, 0.1, 3.0)) == pytest.approx(8.0, abs=1e-2)
    assert known.similarity(0 * image) == np.inf


def test_the_first_draw_is_kept_where_its_risk_is_low(pipeline: Pipeline) -> None:
    assert pipeline.bundle.shielded is not None
    unknown = replace(pipeline.bundle, shielded=replace(pipeline.bundle.shielded, impostors=None))
    _, without = first(using(replace(pipeline, bundle=unknown), SHIELDED))
    prepared, low = first(with_limit(pipeline, 5.0))
    assert without.risk is None
    assert same_warp(without.secret, draw(pipeline, 0))
    assert same_warp(low.secret, draw(pipeline, 0))
    mixture = mix(prepared.conformed, low.secret.reference, 0.5, low.secret.warp)
    np.testing.assert_array_equal(low.image, mixture)
    known = SimilarityCheck.of(normalised(prepared.conformed), pipeline.bundle.spacing_mm)
    assert low.risk == pytest.approx(known.similarity(mixture) - 0.2)


def test_another_is_drawn_where_it_is_high_and_always_the_same_one(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float] = []
    monkeypatch.setattr(SimilarityCheck, "risk", lambda *_: found.pop(0))
    careful = with_limit(pipeline, 1.5)
    drawn = []
    for risks in ([1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]):
        found[:] = risks
        result = segment(brain_scan()[0], careful)
        assert (result.risk, found) == (1.0, [])
        drawn.append(result.exchanges[0].sent)
    assert not np.array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[1], drawn[2])


def test_what_is_sent_is_the_draw_that_passed_and_another_is_another_view(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [3.0, 1.0, 1.0]
    monkeypatch.setattr(SimilarityCheck, "risk", lambda *_: found.pop(0))
    sending = remote(with_limit(pipeline, 1.5))
    prepared, second = first(sending)
    assert same_warp(second.secret, draw(pipeline, 1))
    sent = finish(prepared, sending, Timings()).exchanges[0].sent
    np.testing.assert_array_equal(sent, mix(prepared.conformed, second.secret.reference, 0.5, second.secret.warp))
    again, other = first(sending)
    assert same_warp(other.secret, draw(pipeline, 0))
    with pytest.raises(InputError, match="another view"):
        finish(again, sending, Timings())


def test_a_scan_that_always_shows_is_refused_and_not_noted(pipeline: Pipeline) -> None:
    strict = remote(with_limit(pipeline, -1e3))
    with pytest.raises(InputError, match=rf"^scan: {MOST_DRAWS} mixtures were drawn and each is too much like it"):
        segment(brain_scan()[0], strict)
    assert pipeline.ledger.entries() == []


def test_on_this_machine_the_last_draw_will_do(pipeline: Pipeline) -> None:
    strict = with_limit(pipeline, -1e3)
    _, last = first(strict)
    assert same_warp(last.secret, draw(pipeline, MOST_DRAWS - 1))
    assert segment(brain_scan()[0], strict).labels.any()


def test_other_modes_are_not_measured(pipeline: Pipeline) -> None:
    strict = with_limit(pipeline, -1e3)
    assert segment(brain_scan()[0], using(strict, Mixup())).risk is None
