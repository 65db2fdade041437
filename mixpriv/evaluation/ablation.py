"""Why the method is as it is: networks trained otherwise, answers not rounded, references of another kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from mixpriv.bundle import Shielded
from mixpriv.datasets import Case
from mixpriv.evaluation.methods import (
    ALONE,
    BLANKED,
    DRAWN,
    NONE,
    SHIELDED,
    Method,
    Methods,
    Network,
    Probabilities,
    Proxy,
)
from mixpriv.imaging.preprocess.preprocessor import Conformer
from mixpriv.imaging.resample import Conformed, conform_labels
from mixpriv.imaging.volume import load_volume
from mixpriv.protection.keystream import Stream
from mixpriv.protection.mixing import mix, straighten
from mixpriv.protection.reference import Reference, draw_reference
from mixpriv.timing import Stages
from mixpriv.training.joint import Example, JointConfig, JointModel, one_hot
from mixpriv.training.loop import Initial
from mixpriv.training.networks import unmixer_input

TRIES = 8
"""References drawn, of which the one most or least like the target is taken."""


@dataclass(frozen=True)
class TorchNetworks:
    """S and D of a training run, computed by torch; ``levels`` of the answer, 0 for none: it is not rounded."""

    model: JointModel
    config: JointConfig
    levels: int = 255
    control: Network | None = None  # a network of D's size that saw scans alone
    shielded: Shielded | None = None  # if it was trained for that mode

    @staticmethod
    def of(
        config: JointConfig,
        weights: Initial,
        levels: int = 255,
        control: Network | None = None,
        shielded: Shielded | None = None,
    ) -> TorchNetworks:
        """Networks with given weights.

        Raises
        ------
        InputError
            the weights are not of this config's networks.
        """
        model = JointModel.of(config)
        weights.load_into(model)
        return TorchNetworks(model.eval(), config, levels, control, shielded)

    @torch.no_grad()
    def segment(self, image: NDArray[np.float16]) -> NDArray[Any]:
        """Image (D, H, W) to probabilities x 255 (C-1, D, H, W), uint8 or not rounded float32."""
        assert self.model.segmenter is not None  # noqa: S101 - only a control has none
        logits = self.model.segmenter(torch.from_numpy(image).float()[None, None])
        answer: NDArray[np.float32] = logits.softmax(1)[0, 1:].numpy() * 255
        return np.rint(answer).astype(np.uint8) if self.levels else answer

    @torch.no_grad()
    def reveal(self, proxy: Proxy, answer: NDArray[Any]) -> Probabilities:
        """Unmix by this run's D, shown the images that it was trained with."""
        assert proxy.reference is not None  # noqa: S101 - a mixture has one
        straight = answer if proxy.warp is None else straighten(answer, proxy.warp)
        share = torch.from_numpy(straight.astype(np.float32) / 255)[None]
        mixed = torch.cat([(1 - share.sum(1, keepdim=True)).clamp(min=0), share], 1)
        known = one_hot([torch.from_numpy(proxy.reference.labels)], mixed.shape[1])
        plain, other, image = (
            torch.from_numpy(np.asarray(i, np.float32))[None, None]
            for i in (proxy.plain, proxy.reference.image, proxy.image)
        )
        example = Example(image, known, known, torch.tensor([proxy.weight]), plain, other)
        seen = example.seen(self.config.unmixer_sees)
        corrected = self.model.unmixer(unmixer_input(mixed, known, torch.full_like(image, proxy.weight)), seen)
        return np.asarray(corrected.softmax(1)[0].numpy())

    @torch.no_grad()
    def alone(self, proxy: Proxy, _answer: NDArray[Any]) -> Probabilities:
        """What this run's D says without an answer."""
        image = torch.from_numpy(np.asarray(proxy.plain, np.float32))[None, None]
        return np.asarray(self.model.unmixer(None, image).softmax(1)[0].numpy())

    def methods(
        self, own: Methods, name: str, fused: Sequence[int] = (), shielded: Sequence[float] = ()
    ) -> Iterator[Method]:
        """Its table rows: not mixed, mixed with a drawn weight or shielded, and what its D can do alone.

        ``shielded``: fixed weights in that mode, beside the ends of its range.
        """
        config = self.config
        # a frozen S is the bundle's
        segment = None if config.frozen and self.levels else self.segment
        if segment is not None and self.levels:
            yield Method(f"{name}: {NONE}", own.plain, own.read, segment=segment)
        if config.plain_steps >= config.steps:
            return
        for views in (1, *fused) if config.shielded_share < 1 else ():
            method = DRAWN if views == 1 else f"{DRAWN}, K = {views}"
            yield Method(f"{name}: {method}", partial(own.mixture, None), self.reveal, views, segment=segment)
        if self.shielded is not None:
            for weight in sorted({*shielded, *self.shielded.weight_range}, reverse=True):
                protect = partial(own.mixture, weight, how=self.shielded)
                yield Method(f"{name}: shielded, a = {weight}", protect, self.reveal, segment=segment)
            protect = partial(own.mixture, None, how=self.shielded)
            yield Method(f"{name}: {SHIELDED}", protect, self.reveal, segment=segment)
        if self.levels and config.lone_unmixer and config.plain_share > 0:
            yield Method(f"{name}: {BLANKED}", own.plain, self.alone, segment=segment, sends=False)
        if self.control is not None:
            yield Method(f"{name}: {ALONE}", own.plain, own.read, segment=self.control, sends=False)


Choice = Callable[[bytes, Conformed, int], Reference]
"""Reference number ``index`` for a target, by its content's digest."""


class OtherReferences:
    """References of another kind: real ones, and drawn ones that are like the target or far from it."""

    def __init__(self, own: Methods, real: Sequence[Reference]) -> None:
        self.own, self.real = own, real

    def methods(self) -> Iterator[Method]:
        """Its table rows."""
        for name, choose in (("real", self._real), ("like the target", self._near), ("far from it", self._far)):
            yield Method(f"reference {name}: {DRAWN}", partial(self._protect, choose), self.own.unmix)

    def _protect(self, choose: Choice, content: bytes, target: Conformed, index: int) -> Proxy:
        weight = self.own.mixture(None, content, target, index).weight
        reference = choose(content, target, index)
        return Proxy(mix(target, reference, weight), mix(target, None, 1.0), reference, weight)

    def _real(self, content: bytes, _target: Conformed, index: int) -> Reference:
        number = int.from_bytes(self.own.key.derive("evaluation/real", content, index)[:8], "little")
        return self.real[number % len(self.real)]

    def _near(self, content: bytes, target: Conformed, index: int) -> Reference:
        return self._by_likeness(content, target, index)[-1]

    def _far(self, content: bytes, target: Conformed, index: int) -> Reference:
        return self._by_likeness(content, target, index)[0]

    def _by_likeness(self, content: bytes, target: Conformed, index: int) -> list[Reference]:
        """Drawn references, that with the lowest correlation with the target first."""
        plain = mix(target, None, 1.0).astype(np.float32).ravel()
        seeds = (self.own.key.derive("evaluation/likeness", content, index * TRIES + n) for n in range(TRIES))
        drawn = [draw_reference(self.own.model, Stream(seed)) for seed in seeds]
        return sorted(drawn, key=lambda r: float(np.corrcoef(plain, r.image.ravel())[0, 1]))


def real_references(cases: Sequence[Case], conformer: Conformer, classes: int) -> list[Reference]:
    """Labelled scans as references; for a comparison only, never for a client."""
    references = []
    for case in cases:
        scan = load_volume(case.scan)
        voxels = np.asanyarray(nib.Nifti1Image.from_filename(case.labels).dataobj)
        labels = replace(scan, voxels=np.asfortranarray(voxels, dtype=np.float32))
        target = conformer(scan, Stages())
        image = mix(target, None, 1.0).astype(np.float32)
        references.append(Reference(image, conform_labels(labels, target.grid, classes), target.mask))
    return references
