"""A3: the server holds references: the very ones among others (superset), or others of the same generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixpriv.audit.attacks.subtraction import registered_to, without
from mixpriv.audit.context import Context
from mixpriv.audit.findings import Finding, Outcome, finding
from mixpriv.audit.linkage import Linker
from mixpriv.audit.registry import attack
from mixpriv.audit.simulation import Sent, attacker_key
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import draw_reference
from mixpriv.reid.features import Image


@attack("A3", "Subtraction of a reference out of a bank that the server holds")
def run(context: Context) -> Outcome:
    """Find the likeliest reference of a bank in each mixture and subtract it; nothing to do where nothing is mixed."""
    if not context.mixes:
        return Outcome([])
    sent = context.costly
    streams = [Keystream(attacker_key(number).derive("bank")) for number in range(context.budget.bank)]
    own = [draw_reference(context.environment.model, stream).image for stream in streams]
    true = [one.secret.reference.image for one in sent if one.secret.reference is not None]
    same, _, same_pictures = _subtract(context, sent, own, "same-distribution bank", [])
    superset, matched, pictures = _subtract(context, sent, [*true, *own], "superset bank", range(len(true)))
    return Outcome([*superset, *matched, *same], pictures | same_pictures)


def _subtract(
    context: Context, sent: Sequence[Sent], bank: Sequence[Image], name: str, right: Sequence[int]
) -> tuple[list[Finding], list[Finding], dict[str, Image]]:
    spacing, subjects = context.environment.spacing_mm, [one.visit.subject for one in sent]
    way = "registered" if context.warps else "correlation"
    linker = Linker.of(bank, spacing)
    recovered, hits = [], []
    for number, one in enumerate(sent):
        seen = one.image.astype(np.float32)
        best = int(linker.score(seen)[way].argmax())
        hits.append(float(number in right and right[number] == best))
        reference = registered_to([bank[best]], seen, spacing)[0] if context.warps else bank[best]
        recovered.append(without(seen, reference, spacing))
    found = [
        *context.recovered("A3", f", {name}", recovered, [one.visit for one in sent]),
        *context.linked("A3", recovered, subjects, f", {name}"),
    ]
    chance = 1 / len(bank)
    matched = [finding("A3", context.name, f"right reference found, {name}", hits, subjects, chance)]
    return found, matched if len(right) else [], {f"A3 {name}": recovered[0]}
