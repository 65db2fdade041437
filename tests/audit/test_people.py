"""Made-up people and simulated visits, from scans as the client conforms them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mixpriv.audit.people import mirror, rescan, simulate
from tests.audit.conftest import Stage


def test_changed_copies_show_their_own_image_where_the_scan_lay_on_a_device(stage: Stage) -> None:
    visit = stage.people.gallery[0]
    target = visit.target.with_placed(visit.target.image, visit.target.mask)
    placed = replace(visit, target=target)
    assert placed.image.any()
    np.testing.assert_array_equal(mirror(placed).image, placed.image[::-1])
    assert not np.array_equal(rescan(placed, 0).image, placed.image)
    np.testing.assert_array_equal(rescan(placed, 0).image, rescan(visit, 0).image)


def test_attackers_are_nobody_s_visits(stage: Stage) -> None:
    visits = stage.people.gallery[:6]
    people = simulate(visits, attackers=2, rescans=2)
    assert len(people.known) == 4
    assert not {v.subject for v in people.known} & {v.subject for v in (*people.queries, *people.gallery)}
