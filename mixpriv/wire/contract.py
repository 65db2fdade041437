"""What client and server must agree on: names, element types, shapes, and which network it is.

The server's configuration is generated from this object and the client compares what a server says with it, so that
the two cannot drift apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mixpriv.bundle import Bundle

WIRE_CONTRACT = "2"
"""Raised when what a request may hold or what it means changes. 2: volumes of the bundle's own grid, no other size."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its name, KServe element type, and shape without the batch axis.

    Examples
    --------
    >>> print(TensorSpec("mixture", "FP16", (1, 64, 80, 64)))
    mixture FP16 [1, 64, 80, 64]
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class SegmenterContract:
    """The segmenter as both sides see it.

    Attributes
    ----------
    model_name, model_version : what a request names; the version is derived from the fingerprint.
    mixture : FP16 (M, D, H, W), about 0..1; D, H, W are the bundle's grid, and a server takes no other size
    segmentation_mixture : UINT8 (C-1, D, H, W), probabilities x 255, background dropped
    multiple : every spatial size must be a multiple of this.
    parameters : what the server's model configuration says about the network, all compared.

    Examples
    --------
    >>> from mixpriv.bundle import load_bundle
    >>> contract = SegmenterContract.of(load_bundle("brain-t1"))
    >>> contract.model_name, contract.mixture.dtype
    ('brain-t1_segmenter', 'FP16')
    >>> contract.difference({}, ())[:45]
    'it serves a network without a fingerprint, th'
    """

    model_name: str
    model_version: int
    mixture: TensorSpec
    segmentation_mixture: TensorSpec
    multiple: int
    parameters: Mapping[str, str]

    @classmethod
    def of(cls, bundle: Bundle) -> SegmenterContract:
        """The contract of a bundle's segmenter."""
        return cls(
            model_name=bundle.model_name,
            model_version=bundle.model_version,
            mixture=TensorSpec("mixture", "FP16", (len(bundle.modalities), *bundle.grid_shape)),
            segmentation_mixture=TensorSpec(
                "segmentation_mixture", "UINT8", (len(bundle.classes) - 1, *bundle.grid_shape)
            ),
            multiple=bundle.multiple,
            parameters=MappingProxyType(
                {
                    "wire_contract": WIRE_CONTRACT,
                    "bundle": bundle.name,
                    "bundle_version": bundle.version,
                    "fingerprint": bundle.fingerprint,
                    "classes": json.dumps(bundle.classes),
                    "modalities": json.dumps(bundle.modalities),
                    "spacing_mm": repr(bundle.spacing_mm),
                    "multiple": str(bundle.multiple),
                }
            ),
        )

    def difference(self, parameters: Mapping[str, str], tensors: tuple[TensorSpec, ...]) -> str | None:
        """Say how a server's network differs from this one, both sides named; None if it does not."""
        if parameters.get("fingerprint") != self.parameters["fingerprint"]:
            return f"it serves {_identity(parameters)}, this client needs {_identity(self.parameters)}"
        for name, expected in self.parameters.items():
            if parameters.get(name) != expected:
                return f"its {name} is {_brief(parameters.get(name))}, this client needs {_brief(expected)}"
        expected_tensors = (self.mixture, self.segmentation_mixture)
        if tensors != expected_tensors:
            got, wanted = (", ".join(map(str, specs)) for specs in (tensors, expected_tensors))
            return f"its tensors are {_brief(got)}, this client needs {_brief(wanted)}"
        return None


def _identity(parameters: Mapping[str, str]) -> str:
    if "fingerprint" not in parameters:
        return "a network without a fingerprint"
    name, version, fingerprint = (parameters.get(key, "?") for key in ("bundle", "bundle_version", "fingerprint"))
    return f"{printable(name, 40)} {printable(version, 20)} (fingerprint {printable(fingerprint, 12)})"


def _brief(text: str | None) -> str:
    return "missing" if text is None else printable(text, 200)


def printable(text: str, limit: int) -> str:
    """The text as one printable line of at most `limit` characters: what a server says reaches a terminal."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= limit else line[: limit - 1] + "…"
