"""A5: were one reference used for several scans, the server would find out, average it and subtract it.

The client never does so; the figure says what keeping that rule is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mixpriv.audit.attacks.subtraction import bent_onto, without
from mixpriv.audit.findings import Outcome, finding
from mixpriv.audit.linkage import Linker
from mixpriv.audit.scene import Scene
from mixpriv.audit.views import client_key, noise
from mixpriv.protection.keystream import Stream
from mixpriv.protection.reference import draw_reference
from mixpriv.reid.features import Image


def attack(scene: Scene) -> Outcome:
    """Two references for all queries, in turn: who shares one is told, and it is recovered."""
    if not scene.mode.mixes:
        return Outcome([])
    images, groups = _reusing(scene), np.arange(len(scene.tried)) % 2
    way = "registered" if scene.mode.warp_mm else "correlation"
    linker = Linker.of(images, scene.world.spacing_mm)
    likeness = np.stack([linker.score(image)[way] for image in images])
    told = []
    for number, row in enumerate(likeness):
        others = np.arange(len(images)) != number
        same, apart = row[others & (groups == groups[number])], row[groups != groups[number]]
        told.append(float((same[:, None] > apart[None]).mean()))
    visits = [visit for _, visit in scene.tried]
    subjects = [visit.subject for visit in visits]
    recovered = [_without_group(scene, images, groups == group, number) for number, group in enumerate(groups)]
    found = [
        finding("A5", scene.mode.name, "AUC, same reference, if reused", told, subjects, 0.5),
        *scene.recovered("A5", ", if reused", recovered, visits),
        *scene.linked("A5", recovered, subjects, ", if reused"),
    ]
    return Outcome(found, {"A5 if its reference were reused": recovered[0]})


def _reusing(scene: Scene) -> list[Image]:
    """What a client would send that had only two references for all scans."""
    world, mode = scene.world, scene.mode
    references = [draw_reference(world.model, Stream(client_key(n).derive("audit/reused"))) for n in range(2)]
    images = []
    for number, (key, visit) in enumerate(scene.tried):
        weight = mode.draw_weight(key.derive("audit/reused/weight", visit.content), world)
        image, _ = mode.apply(visit, references[number % 2], weight, mode.draw_warp(visit, world, key))
        images.append((noise(image, key) if mode.blind else image).astype(np.float32))
    return images


def _without_group(scene: Scene, images: Sequence[Image], group: NDArray[np.bool_], number: int) -> Image:
    """A mixture without what the others of its group share: their mean, less what all brains share."""
    seen, spacing = images[number], scene.world.spacing_mm
    others = [image for index, image in enumerate(images) if group[index] and index != number]
    if scene.mode.warp_mm:
        others = bent_onto(others, seen, spacing)
    shared = np.mean(others, axis=0)
    weight = scene.mode.mean_weight(scene.world)
    reference = np.clip((shared - weight * scene.template) / (1 - weight), 0, 1).astype(np.float32)
    return without(seen, reference, spacing)
