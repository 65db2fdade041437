"""Privacy-preserving segmentation of medical images between a client and a server (mixing and unmixing).

>>> import mixpriv
>>> mixpriv.bundles()
('brain-t1', 'hippocampus')
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixpriv.api import Client as Client
    from mixpriv.api import segment as segment
    from mixpriv.bundle import shipped_bundles as bundles  # noqa: F401
    from mixpriv.client.segmentation import Exchange as Exchange
    from mixpriv.client.segmentation import Segmentation as Segmentation
    from mixpriv.errors import MixprivError as MixprivError
    from mixpriv.errors import UnfitScanError as UnfitScanError
    from mixpriv.protection.modes import Local as Local
    from mixpriv.protection.modes import Mixup as Mixup
    from mixpriv.protection.modes import Plain as Plain
    from mixpriv.protection.modes import Shielded as Shielded
    from mixpriv.quality.check import Check as Check
    from mixpriv.wire.tls import TlsOptions as TlsOptions
    from mixpriv.wire.token import Token as Token

__version__ = "0.1.0"

_PUBLIC = {
    "segment": "mixpriv.api:segment",
    "Client": "mixpriv.api:Client",
    "Segmentation": "mixpriv.client.segmentation:Segmentation",
    "Exchange": "mixpriv.client.segmentation:Exchange",
    "Plain": "mixpriv.protection.modes:Plain",
    "Local": "mixpriv.protection.modes:Local",
    "Mixup": "mixpriv.protection.modes:Mixup",
    "Shielded": "mixpriv.protection.modes:Shielded",
    "TlsOptions": "mixpriv.wire.tls:TlsOptions",
    "Token": "mixpriv.wire.token:Token",
    "bundles": "mixpriv.bundle:shipped_bundles",
    "Check": "mixpriv.quality.check:Check",
    "MixprivError": "mixpriv.errors:MixprivError",
    "UnfitScanError": "mixpriv.errors:UnfitScanError",
}
"""Names that are imported when they are asked for: ``import mixpriv`` alone loads nothing heavy."""

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604, RUF100


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mixpriv' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
