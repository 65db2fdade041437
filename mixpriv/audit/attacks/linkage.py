"""A1: linkage without training, on what was sent; and how much of the scan is seen before any attack."""

from __future__ import annotations

import numpy as np

from mixpriv.audit.context import Context
from mixpriv.audit.findings import Outcome
from mixpriv.audit.registry import attack


@attack("A1", "Linkage without training of what was sent to a gallery of known people")
def run(context: Context) -> Outcome:
    """Link every request to the gallery."""
    images = [sent.image for sent in context.sent]
    visits = [sent.visit for sent in context.sent]
    found = context.linked("A1", images, [visit.subject for visit in visits])
    few = len(context.few)
    seen = [image.astype(np.float32) for image in images[:few]]
    pictures = {"the scan": visits[0].image, "what the server sees": seen[0], "template": context.template}
    return Outcome([*context.recovered("view", "", seen, visits[:few]), *found], pictures)
