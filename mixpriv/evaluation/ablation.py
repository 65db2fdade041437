"""Why the method is as it is: networks trained otherwise, answers not rounded, references of another kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from mixpriv import bundle as bundles
from mixpriv.bundle import Bundle
from mixpriv.datasets import Case
from mixpriv.evaluation import method_id as names
from mixpriv.evaluation.method_id import MethodId
from mixpriv.evaluation.methods import Method, Network
from mixpriv.imaging.preprocess.preprocessor import Preprocessor
from mixpriv.imaging.resample import Conformed, conform_labels
from mixpriv.imaging.volume import load_volume
from mixpriv.labels import Labelling
from mixpriv.protection.draws import KeyedDraws
from mixpriv.protection.mixing import normalised
from mixpriv.protection.modes import (
    Answer,
    ClientNetwork,
    Mixup,
    Mode,
    Plain,
    Probabilities,
    Protected,
    Secret,
    Shielded,
)
from mixpriv.protection.reference import Reference
from mixpriv.protection.unmixing import unwarp
from mixpriv.timing import Timings
from mixpriv.training.config import JointConfig
from mixpriv.training.data.augment import one_hot
from mixpriv.training.examples import Example
from mixpriv.training.joint import JointModel
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
    shielded: bundles.Shielded | None = None  # if it was trained for that mode

    @staticmethod
    def of(
        config: JointConfig,
        weights: Initial,
        levels: int = 255,
        control: Network | None = None,
        shielded: bundles.Shielded | None = None,
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
        if self.model.segmenter is None:
            raise ValueError("config: expected one with a segmenter, got a control's")
        logits = self.model.segmenter(_tensor(image[None]))
        answer: NDArray[np.float32] = logits.softmax(1)[0, 1:].numpy() * 255
        return np.rint(answer).astype(np.uint8) if self.levels else answer

    def reveal(self, conformed: Conformed, answers: Sequence[Answer], requests: Sequence[Protected]) -> Probabilities:
        """Unmix by this run's D, shown the images that it was trained with."""
        parts = [self._unmix(conformed, *pair) for pair in zip(answers, requests, strict=True)]
        return np.asarray(np.sum(parts, axis=0), np.float32)

    @torch.no_grad()
    def _unmix(self, conformed: Conformed, answer: Answer, request: Protected) -> Probabilities:
        secret, reference = request.secret, request.secret.reference
        if reference is None:
            raise ValueError("secret: expected a reference in a mixture")
        unwarped = answer if secret.warp is None else unwarp(answer, secret.warp)
        share = torch.from_numpy(unwarped.astype(np.float32) / 255)[None]
        mixed = torch.cat([(1 - share.sum(1, keepdim=True)).clamp(min=0), share], 1)
        known = one_hot(torch.from_numpy(reference.labels)[None], mixed.shape[1])
        image, scan, other = (_tensor(i) for i in (request.image, normalised(conformed), reference.image[None]))
        example = Example(image, known, known, torch.tensor([secret.weight]), scan, other)
        seen = example.seen(self.config.networks.unmixer_sees)
        corrected = self.model.unmixer(unmixer_input(mixed, known, torch.full_like(image, secret.weight)), seen)
        return np.asarray(corrected.softmax(1)[0].numpy())

    @torch.no_grad()
    def alone(self, conformed: Conformed, _answers: Sequence[Answer], _requests: Sequence[Protected]) -> Probabilities:
        """What this run's D says without an answer."""
        return np.asarray(self.model.unmixer(None, _tensor(normalised(conformed))).softmax(1)[0].numpy())

    def methods(self, variant: str, fused: Sequence[int] = (), shielded: Sequence[float] = ()) -> Iterator[Method]:
        """Its table rows: not mixed, mixed with a drawn weight or shielded, and what its D can do alone.

        ``shielded``: fixed weights in that mode, beside the ends of its range.
        """
        config = self.config
        # a frozen S is the bundle's
        network = None if config.frozen and self.levels else self.segment
        if network is not None and self.levels:
            yield Method(MethodId(names.NONE, variant=variant), Plain(), network)
        if config.mixing.plain_steps >= config.schedule.steps:
            return
        for count in (1, *fused) if config.mixing.shielded_share < 1 else ():
            name = MethodId(names.MIXUP, references=count, variant=variant)
            yield Method(name, Mixup(references=count), network, self.reveal)
        if self.shielded is not None:
            for weight in sorted({*shielded, *self.shielded.weight_range}, reverse=True):
                yield self._shielded(variant, self.shielded, weight, network)
            yield self._shielded(variant, self.shielded, None, network)
        if self.levels and config.lone_unmixer and config.mixing.plain_share > 0:
            yield Method(MethodId(names.BLANKED, variant=variant), Plain(), network, self.alone, sends=False)
        if self.control is not None:
            yield Method(MethodId(names.ALONE, variant=variant), Plain(), self.control, sends=False)

    def _shielded(self, variant: str, how: bundles.Shielded, weight: float | None, network: Network | None) -> Method:
        mode = Shielded(how.weight_range if weight is None else weight, how.warp_mm, check=False)
        return Method(MethodId(names.SHIELDED, weight, variant=variant), mode, network, self.reveal)


def _tensor(images: NDArray[np.floating[Any]]) -> torch.Tensor:
    """Images (M, D, H, W) as a batch of one, float32."""
    return torch.from_numpy(np.asarray(images, np.float32))[None]


Choice = Callable[[KeyedDraws, Conformed, int], Reference]
"""Reference number ``index`` for a scan, with what could be drawn for it."""


@dataclass(frozen=True)
class _Chosen(KeyedDraws):
    """Draws but for the references, which are chosen."""

    choose: Callable[[int], Reference] | None = field(default=None, repr=False)

    def reference(self, purpose: str, index: int = 0) -> Reference:
        if self.choose is None:
            raise ValueError("choose: expected a way to choose a reference")
        return self.choose(index)


@dataclass(frozen=True)
class ChosenReferences:
    """Another mode with references that are chosen in a way that no client has; all else is drawn as it draws it."""

    inner: Mode
    choose: Choice

    @property
    def name(self) -> str:
        """The inner mode's."""
        return self.inner.name

    @property
    def count(self) -> int:
        """The inner mode's."""
        return self.inner.count

    @property
    def unmixes(self) -> bool:
        """As the inner mode."""
        return self.inner.unmixes

    def require(self, bundle: Bundle) -> None:
        """As the inner mode."""
        self.inner.require(bundle)

    def requests(self, conformed: Callable[[], Conformed], draws: KeyedDraws) -> Iterator[Protected]:
        """Those of the inner mode, with the chosen references."""
        scan = conformed()
        own = (draws.terms, draws.key, draws.content, draws.model, draws.lend)
        yield from self.inner.requests(conformed, _Chosen(*own, lambda index: self.choose(draws, scan, index)))

    def reveal(
        self, conformed: Conformed, answers: Sequence[Answer], secrets: Sequence[Secret], network: ClientNetwork | None
    ) -> Probabilities:
        """As the inner mode."""
        return self.inner.reveal(conformed, answers, secrets, network)


def other_references(real: Sequence[Reference]) -> Iterator[Method]:
    """Table rows of references of another kind: real ones, and drawn ones that are like the target or far from it."""

    def a_real_one(draws: KeyedDraws, _scan: Conformed, index: int) -> Reference:
        number = int.from_bytes(draws.key.derive("evaluation/real", draws.content, index)[:8], "little")
        return real[number % len(real)]

    kinds: dict[str, Choice] = {
        "reference real": a_real_one,
        "reference like the target": lambda *given: _by_similarity(*given)[-1],
        "reference far from it": lambda *given: _by_similarity(*given)[0],
    }
    for variant, choose in kinds.items():
        yield Method(MethodId(names.MIXUP, variant=variant), ChosenReferences(Mixup(), choose))


def _by_similarity(draws: KeyedDraws, scan: Conformed, index: int) -> list[Reference]:
    """Drawn references, that with the lowest correlation with the scan first."""
    plain = normalised(scan)[0].astype(np.float32).ravel()
    drawn = [draws.reference("evaluation/similarity", index * TRIES + n) for n in range(TRIES)]
    return sorted(drawn, key=lambda r: float(np.corrcoef(plain, r.image.ravel())[0, 1]))


def real_references(cases: Sequence[Case], preprocess: Preprocessor, labelling: Labelling) -> list[Reference]:
    """Labelled scans as references; for a comparison only, never for a client."""
    references = []
    for case in cases:
        scan = load_volume(case.scan)
        voxels = np.asanyarray(nib.Nifti1Image.from_filename(case.labels).dataobj)
        labels = replace(scan, voxels=np.asfortranarray(voxels, dtype=np.float32))
        target = preprocess(scan, Timings())
        images = normalised(target).astype(np.float32)
        references.append(Reference(images, conform_labels(labels, target.grid, labelling), target.mask))
    return references
