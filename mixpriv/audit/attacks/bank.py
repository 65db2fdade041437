"""A3: the server holds references: the very ones among others (superset), or others of the same generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixpriv.audit.attacks.subtraction import bent_onto, without
from mixpriv.audit.findings import Finding, Outcome, finding
from mixpriv.audit.linkage import Linker
from mixpriv.audit.scene import Scene
from mixpriv.audit.views import Sent, attacker_key
from mixpriv.protection.keystream import Stream
from mixpriv.protection.reference import draw_reference
from mixpriv.reid.features import Image


def attack(scene: Scene) -> Outcome:
    """Find the likeliest reference of a bank in each mixture and subtract it; nothing to do where nothing is mixed."""
    if not scene.mode.mixes:
        return Outcome([])
    sent = scene.costly
    streams = [Stream(attacker_key(number).derive("bank")) for number in range(scene.effort.bank)]
    own = [draw_reference(scene.world.model, stream).image for stream in streams]
    true = [one.secret.reference.image for one in sent if one.secret.reference is not None]
    same, _, same_pictures = _subtract(scene, sent, own, "same-distribution bank", [])
    superset, matched, pictures = _subtract(scene, sent, [*true, *own], "superset bank", range(len(true)))
    return Outcome([*superset, *matched, *same], pictures | same_pictures)


def _subtract(
    scene: Scene, sent: Sequence[Sent], bank: Sequence[Image], name: str, right: Sequence[int]
) -> tuple[list[Finding], list[Finding], dict[str, Image]]:
    spacing, subjects = scene.world.spacing_mm, [one.visit.subject for one in sent]
    way = "registered" if scene.mode.warp_mm else "correlation"
    linker = Linker.of(bank, spacing)
    recovered, hits = [], []
    for number, one in enumerate(sent):
        seen = one.view.image.astype(np.float32)
        best = int(linker.score(seen)[way].argmax())
        hits.append(float(number in right and right[number] == best))
        reference = bent_onto([bank[best]], seen, spacing)[0] if scene.mode.warp_mm else bank[best]
        recovered.append(without(seen, reference, spacing))
    found = [
        *scene.recovered("A3", f", {name}", recovered, [one.visit for one in sent]),
        *scene.linked("A3", recovered, subjects, f", {name}"),
    ]
    chance = 1 / len(bank)
    matched = [finding("A3", scene.mode.name, f"right reference found, {name}", hits, subjects, chance)]
    return found, matched if len(right) else [], {f"A3 {name}": recovered[0]}
