"""A2 and A6: networks that learned on requests of the attacker's own."""

from __future__ import annotations

from mixpriv.audit.context import Context
from mixpriv.audit.findings import Outcome
from mixpriv.audit.registry import attack


@attack("A2", "Linkage by a Siamese network that learned on requests of other people", needs=("torch",))
def siamese(context: Context) -> Outcome:
    """Train on the attacker's people and keys, then link every request to the gallery."""
    from mixpriv.audit.learned.siamese import link

    return link(context)


@attack("A6", "Separation of the scan from the reference by networks", needs=("torch",))
def separation(context: Context) -> Outcome:
    """Separate requests by a network that was trained to do so, and by one that was not."""
    from mixpriv.audit.learned.separation import separate

    return separate(context)
