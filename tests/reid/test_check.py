"""Is a mixture too much like its own scan? Then it is drawn again, and never sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mixpriv.bundle import Strangers
from mixpriv.client.segment import Client, Options, Prepared, prepare, segment, segment_prepared
from mixpriv.errors import InputError
from mixpriv.protection.mixing import mix_modalities
from mixpriv.reid.check import MOST_DRAWS, Recognition
from mixpriv.timing import Stages
from tests.support.phantom import brain_scan
from tests.support.remote import RemoteSegmenter

SHIELDED = Options("shielded", weight=0.5)


def with_limit(client: Client, limit: float, std: float = 1.0) -> Client:
    """A client whose bundle knows strangers."""
    assert client.bundle.shielded is not None
    shielded = replace(client.bundle.shielded, strangers=Strangers(0.2, std, limit))
    return replace(client, bundle=replace(client.bundle, shielded=shielded))


def prepared(client: Client, options: Options = SHIELDED) -> Prepared:
    return prepare(brain_scan()[0], client, options, Stages())


def test_a_scan_is_most_like_itself(client: Client) -> None:
    image = mix_modalities(prepared(client).target, None, 1.0)
    known = Recognition.of(image, client.bundle.spacing_mm)
    assert known.likeness(image) == pytest.approx(1.0, abs=1e-4)
    noise = np.random.default_rng(0).random(image.shape).astype(np.float32) * (image > 0)
    assert known.likeness(noise) < 0.9 * known.likeness(0.5 * image.astype(np.float32) + 0.5 * noise)
    assert known.risk(image, Strangers(0.2, 0.1, 3.0)) == pytest.approx(8.0, abs=1e-2)
    assert known.likeness(0 * image) == np.inf


def test_the_first_draw_is_kept_where_its_risk_is_low(client: Client) -> None:
    assert client.bundle.shielded is not None
    unknown = replace(client.bundle, shielded=replace(client.bundle.shielded, strangers=None))
    without, low = prepared(replace(client, bundle=unknown)), prepared(with_limit(client, 5.0))
    assert (without.risk, without.draw) == (None, 0)
    assert low.draw == 0
    assert low.reference is not None
    mixture = mix_modalities(low.target, low.reference, 0.5, low.warp)
    known = Recognition.of(mix_modalities(low.target, None, 1.0), client.bundle.spacing_mm)
    assert low.risk == pytest.approx(known.likeness(mixture) - 0.2)
    assert without.warp is not None
    assert low.warp is not None
    np.testing.assert_array_equal(without.warp.forward[0], low.warp.forward[0])


def test_another_is_drawn_where_it_is_high_and_always_the_same_one(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float] = []
    monkeypatch.setattr(Recognition, "risk", lambda *_: found.pop(0))
    careful = with_limit(client, 1.5)
    drawn = []
    for risks in ([1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]):
        found[:] = risks
        result = segment(brain_scan()[0], careful, SHIELDED)
        assert (result.risk, found) == (1.0, [])
        drawn.append(result.views[0].mixture)
    assert not np.array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[1], drawn[2])


def test_what_is_sent_is_the_draw_that_passed_and_another_is_another_view(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [3.0, 1.0, 1.0]
    monkeypatch.setattr(Recognition, "risk", lambda *_: found.pop(0))
    remote = replace(with_limit(client, 1.5), segmenter=RemoteSegmenter(client.bundle))
    second = prepared(remote)
    assert second.draw == 1
    sent = segment_prepared(second, remote, SHIELDED, Stages())
    assert second.reference is not None
    expected = mix_modalities(second.target, second.reference, 0.5, second.warp)
    np.testing.assert_array_equal(sent.views[0].mixture, expected)
    first = prepared(remote)
    assert first.draw == 0
    assert first.warp is not None
    assert second.warp is not None
    assert not np.array_equal(first.warp.forward[0], second.warp.forward[0])
    with pytest.raises(InputError, match="another view"):
        segment_prepared(first, remote, SHIELDED, Stages())


def test_a_scan_that_always_shows_is_refused_and_not_noted(client: Client) -> None:
    strict = replace(with_limit(client, -1e3), segmenter=RemoteSegmenter(client.bundle))
    with pytest.raises(InputError, match=rf"^scan: {MOST_DRAWS} mixtures were drawn and each is too much like it"):
        segment(brain_scan()[0], strict, SHIELDED)
    assert client.ledger.entries() == []


def test_on_this_machine_the_last_draw_will_do(client: Client) -> None:
    assert prepared(with_limit(client, -1e3)).draw == MOST_DRAWS - 1


def test_other_modes_are_not_measured(client: Client) -> None:
    strict = with_limit(client, -1e3)
    assert segment(brain_scan()[0], strict, Options()).risk is None
