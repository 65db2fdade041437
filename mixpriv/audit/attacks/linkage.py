"""A1: linkage without training, on what was sent; and how much of the scan is seen before any attack."""

from __future__ import annotations

import numpy as np

from mixpriv.audit.findings import Outcome
from mixpriv.audit.scene import Scene


def attack(scene: Scene) -> Outcome:
    """Link every request to the gallery."""
    images = [sent.view.image for sent in scene.sent]
    visits = [sent.visit for sent in scene.sent]
    found = scene.linked("A1", images, [visit.subject for visit in visits])
    few = len(scene.few)
    seen = [image.astype(np.float32) for image in images[:few]]
    pictures = {"the scan": visits[0].image, "what the server sees": seen[0], "template": scene.template}
    return Outcome([*scene.recovered("view", "", seen, visits[:few]), *found], pictures)
