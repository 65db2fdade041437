"""Is a mixture too much like its own scan? Then it is drawn again, and never sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mixpriv.bundle import Strangers
from mixpriv.client.proxy import mix_modalities
from mixpriv.client.risk import MOST_DRAWS, Recognition
from mixpriv.client.segment import Client, Options, Prepared, prepare, segment
from mixpriv.client.stages import Stages
from mixpriv.errors import InputError
from tests.phantom import brain_scan

SHIELDED = Options("shielded", weight=0.5)


def with_limit(client: Client, limit: float, std: float = 1.0) -> Client:
    """A client whose bundle knows strangers."""
    assert client.bundle.shielded is not None
    shielded = replace(client.bundle.shielded, strangers=Strangers(0.2, std, limit))
    return replace(client, bundle=replace(client.bundle, shielded=shielded))


def prepared(client: Client, options: Options = SHIELDED) -> Prepared:
    return prepare(brain_scan()[0], client, options, Stages())


def test_a_scan_is_most_like_itself(client: Client) -> None:
    image = mix_modalities(prepared(client).target, None, 1.0)[0]
    known = Recognition.of(image, client.bundle.spacing_mm)
    assert known.likeness(image) == pytest.approx(1.0, abs=1e-4)
    noise = np.random.default_rng(0).random(image.shape).astype(np.float32) * (image > 0)
    assert known.likeness(noise) < 0.9 * known.likeness(0.5 * image.astype(np.float32) + 0.5 * noise)
    assert known.risk(image, Strangers(0.2, 0.1, 3.0)) == pytest.approx(8.0, abs=1e-2)


def test_the_first_draw_is_kept_where_its_risk_is_low(client: Client) -> None:
    without, low = prepared(client), prepared(with_limit(client, 5.0))
    assert without.risk is None
    assert low.risk is not None
    assert -1 < low.risk < 1
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


def test_a_scan_that_always_shows_is_refused_and_not_noted(client: Client) -> None:
    strict = with_limit(client, -1e3)
    with pytest.raises(InputError, match=rf"^scan: {MOST_DRAWS} mixtures were drawn and each is too much like it"):
        segment(brain_scan()[0], strict, SHIELDED)
    assert client.ledger.entries() == []


def test_other_modes_are_not_measured(client: Client) -> None:
    strict = with_limit(client, -1e3)
    assert segment(brain_scan()[0], strict, Options()).risk is None
