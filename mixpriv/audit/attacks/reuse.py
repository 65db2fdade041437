"""A5: were one reference used for several scans, the server would find out, average it and subtract it.

The client never does so; the figure says what keeping that rule is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mixpriv.audit.attacks.subtraction import registered_to, without
from mixpriv.audit.context import Context
from mixpriv.audit.findings import Outcome, finding
from mixpriv.audit.linkage import Linker
from mixpriv.audit.registry import attack
from mixpriv.audit.simulation import ReusedReference, client_key, request
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import draw_reference
from mixpriv.reid.features import Image


@attack("A5", "Subtraction of a reference that a careless client used twice")
def run(context: Context) -> Outcome:
    """Two references for all queries, in turn: whose is the same is found out, and it is recovered."""
    if not context.mixes:
        return Outcome([])
    images, groups = _reusing(context), np.arange(len(context.tried)) % 2
    way = "registered" if context.warps else "correlation"
    linker = Linker.of(images, context.environment.spacing_mm)
    similarity = np.stack([linker.score(image)[way] for image in images])
    areas = []
    for number, row in enumerate(similarity):
        others = np.arange(len(images)) != number
        same, apart = row[others & (groups == groups[number])], row[groups != groups[number]]
        areas.append(float((same[:, None] > apart[None]).mean()))
    visits = [visit for _, visit in context.tried]
    subjects = [visit.subject for visit in visits]
    recovered = [_without_group(context, images, groups == group, number) for number, group in enumerate(groups)]
    found = [
        finding("A5", context.name, "AUC, same reference, if reused", areas, subjects, 0.5),
        *context.recovered("A5", ", if reused", recovered, visits),
        *context.linked("A5", recovered, subjects, ", if reused"),
    ]
    return Outcome(found, {"A5 if its reference were reused": recovered[0]})


def _reusing(context: Context) -> list[Image]:
    """What a client would send that had only two references for all scans."""
    environment = context.environment
    references = [draw_reference(environment.model, Keystream(client_key(n).derive("audit/reused"))) for n in range(2)]
    images = []
    for number, (key, visit) in enumerate(context.tried):
        draws = ReusedReference(environment.terms, key, visit.content, environment.model, reused=references[number % 2])
        images.append(request(context.mode, visit, environment, draws).image.astype(np.float32))
    return images


def _without_group(context: Context, images: Sequence[Image], group: NDArray[np.bool_], number: int) -> Image:
    """A mixture without what the others of its group share: their mean, less what all brains share."""
    seen, spacing = images[number], context.environment.spacing_mm
    others = [image for index, image in enumerate(images) if group[index] and index != number]
    if context.warps:
        others = registered_to(others, seen, spacing)
    shared = np.mean(others, axis=0)
    weight = context.mean_weight
    reference = np.clip((shared - weight * context.template) / (1 - weight), 0, 1).astype(np.float32)
    return without(seen, reference, spacing)
