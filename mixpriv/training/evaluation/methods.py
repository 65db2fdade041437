"""Every method behind one interface: protect the scan, let the server segment what is sent, reveal the target."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mixpriv import kernels
from mixpriv.bundle import Bundle
from mixpriv.client.conform import Conformed, to_scan
from mixpriv.client.key import ClientKey, content_digest
from mixpriv.client.proxy import draw_weight, keep_inside, linear_unmix, mix, unmix, unpack_probabilities
from mixpriv.client.random import Stream
from mixpriv.client.reference import Reference, ReferenceModel, draw_reference
from mixpriv.client.stages import Stages
from mixpriv.client.target import load_conformer
from mixpriv.client.volume import load_volume
from mixpriv.engine import load
from mixpriv.training.evaluation.cases import Case
from mixpriv.training.evaluation.metrics import Score, dice, hd95_mm, volume_similarity
from mixpriv.wire.transport import Segmenter

Probabilities = NDArray[np.float32]
Control = Callable[[NDArray[np.float16]], NDArray[np.uint8]]
"""A network that a client could run alone: image (D, H, W) to answer (C-1, D, H, W)."""


class InProcessSegmenter:
    """The bundle's segmenter without a server between."""

    def __init__(self, bundle: Bundle) -> None:
        self._engine = load(bundle.segmenter_path)

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        """As a server would answer: (N, M, D, H, W) to (N, C-1, D, H, W)."""
        return np.asarray(self._engine(mixture=mixture)["segmentation_mixture"])


@dataclass(frozen=True)
class Proxy:
    """What is sent in place of a scan, beside what only the client knows of it; without reference nothing is mixed."""

    image: NDArray[np.float16] = field(repr=False)
    reference: Reference | None = field(repr=False)
    weight: float


@dataclass(frozen=True)
class Method:
    """Protect a target (proxy number ``index`` of several) and reveal it in the answer; averaged over ``views``."""

    name: str
    protect: Callable[[bytes, Conformed, int], Proxy]
    reveal: Callable[[Proxy, NDArray[np.uint8]], Probabilities]
    views: int = 1
    segment: Control | None = None  # in place of the server


@dataclass
class Cost:
    """What a scan costs with a method: bytes, and mean seconds over the scans so far."""

    sent: int = 0
    received: int = 0
    segment_s: float = 0.0
    reveal_s: float = 0.0
    scans: int = 0

    def add(self, sent: int, received: int, segment_s: float, reveal_s: float) -> None:
        """Take one scan into the means."""
        self.scans += 1
        self.sent, self.received = sent, received
        self.segment_s += (segment_s - self.segment_s) / self.scans
        self.reveal_s += (reveal_s - self.reveal_s) / self.scans


class Methods:
    """The methods of one bundle. The key is made from a seed, so that a table can be made again."""

    def __init__(self, bundle: Bundle, seed: int) -> None:
        self.bundle, self.unmixer = bundle, load(bundle.unmixer_path)
        self.key = ClientKey(hashlib.sha256(f"evaluation {seed}".encode()).digest())
        self.model = ReferenceModel.load(bundle.reference_path)
        self.average = average_anatomy(self.model)

    def all(self, weights: Sequence[float], fused: Sequence[int], control: Control | None) -> Iterator[Method]:
        """Every method in the table's order, with fixed weights of the target and numbers of references to average."""
        yield Method("none", self.plain, self.read)
        for weight in weights:
            yield Method(f"mixup, a = {weight}", partial(self.mixture, weight), self.unmix)
        yield Method("mixup, a drawn", partial(self.mixture, None), self.unmix)
        for views in fused:
            yield Method(f"mixup, a drawn, K = {views}", partial(self.mixture, None), self.unmix, views)
        for weight in weights:
            yield Method(f"linear unmixing, a = {weight}", partial(self.mixture, weight), self.linear)
        yield Method("linear unmixing, a drawn", partial(self.mixture, None), self.linear)
        yield Method("D, answer blanked", partial(self.mixture, None), self.blanked)
        if control is not None:
            yield Method("network of D's size on the scan", self.plain, self.read, segment=control)

    def plain(self, _content: bytes, target: Conformed, _index: int) -> Proxy:
        """The scan itself."""
        return Proxy(mix(target, None, 1.0), None, 1.0)

    def mixture(self, weight: float | None, content: bytes, target: Conformed, index: int) -> Proxy:
        """The scan mixed with a reference of its own at a weight, drawn if None."""
        purpose = f"evaluation/{weight}"
        reference = draw_reference(self.model, Stream(self.key.derive(purpose, content, index)))
        drawn = draw_weight(self.key.derive(f"{purpose}/weight", content, index), self.bundle.weight_range)
        share = drawn if weight is None else weight
        return Proxy(mix(target, reference, share), reference, share)

    def read(self, _proxy: Proxy, answer: NDArray[np.uint8]) -> Probabilities:
        """Take the answer as it is."""
        return unpack_probabilities(answer)

    def unmix(self, proxy: Proxy, answer: NDArray[np.uint8]) -> Probabilities:
        """Unmix by the bundle's D."""
        return unmix(answer, _labels(proxy), proxy.weight, self.unmixer)

    def linear(self, proxy: Proxy, answer: NDArray[np.uint8]) -> Probabilities:
        """Unmix linearly."""
        return linear_unmix(answer, _labels(proxy), proxy.weight)

    def blanked(self, proxy: Proxy, _answer: NDArray[np.uint8]) -> Probabilities:
        """D without the server: its answer replaced by the average anatomy's share beside the reference's."""
        known = np.eye(len(self.average), dtype=np.float32)[_labels(proxy)].transpose(3, 0, 1, 2)
        answer = proxy.weight * self.average + (1 - proxy.weight) * known
        return unmix(to_answer(answer), _labels(proxy), proxy.weight, self.unmixer)


class Evaluator:
    """All methods on case after case through one server; ``costs`` fills up as it goes."""

    def __init__(self, bundle: Bundle, segmenter: Segmenter, methods: Iterable[Method]) -> None:
        self.bundle, self.segmenter, self.conformer = bundle, segmenter, load_conformer(bundle)
        self.methods = list(methods)
        self.costs = {method.name: Cost() for method in self.methods}

    def evaluate(self, case: Case) -> Iterator[Score]:
        """Scores of every method and class on one case, in the scan's own grid."""
        scan = load_volume(case.scan)
        truth = np.asanyarray(nib.Nifti1Image.from_filename(case.labels).dataobj)
        target = self.conformer(scan, Stages())
        content = content_digest(scan.voxels, scan.affine)
        answers: dict[bytes, tuple[NDArray[np.uint8], float]] = {}
        for method in self.methods:
            probabilities = self._run(method, content, target, answers)
            keep_inside(probabilities, target.mask, float(method.views))
            labels = to_scan(probabilities, target.grid, scan)
            for label in range(1, len(self.bundle.classes)):
                pair = labels == label, truth == label
                yield Score(
                    method.name, case.subject, case.name, label,
                    dice(*pair), hd95_mm(*pair, scan.spacing_mm), volume_similarity(*pair),
                )  # fmt: skip

    def _run(
        self, method: Method, content: bytes, target: Conformed, answers: dict[bytes, tuple[NDArray[np.uint8], float]]
    ) -> Probabilities:
        """Sum of the revealed probabilities over a method's views; an image sent before is not sent again."""
        total: Probabilities | None = None
        sent = received = 0
        seconds = reveal_s = 0.0
        for index in range(method.views):
            proxy = method.protect(content, target, index)
            name = hashlib.sha256(proxy.image.tobytes()).digest() + bytes([method.segment is None])
            if name not in answers:
                begin = time.perf_counter()
                answer = (method.segment or self._ask)(proxy.image)
                answers[name] = answer, time.perf_counter() - begin
            answer, segment_s = answers[name]
            begin = time.perf_counter()
            part = np.array(method.reveal(proxy, answer), order="C")
            reveal_s += time.perf_counter() - begin
            if method.segment is None:
                sent, received = sent + proxy.image.nbytes, received + answer.nbytes
            seconds += segment_s
            if total is None:
                total = part
            else:
                kernels.accumulate(total, part)
        assert total is not None  # noqa: S101 - a method has a view
        self.costs[method.name].add(sent, received, seconds, reveal_s)
        return total

    def _ask(self, image: NDArray[np.float16]) -> NDArray[np.uint8]:
        return np.asarray(self.segmenter.segment(image[None, None])[0])


def _labels(proxy: Proxy) -> NDArray[np.uint8]:
    assert proxy.reference is not None  # noqa: S101 - a mixture has one
    return proxy.reference.labels


def average_anatomy(model: ReferenceModel) -> Probabilities:
    """Mean label probabilities of the generator's atlas in the bundle's grid, (C, D, H, W) float32."""
    atlas = model.atlas.astype(np.float32) / 255
    values = range(int(model.tissue_of.max()) + 1)
    return np.stack([model.in_grid(atlas[model.tissue_of == value].sum(axis=0)) for value in values])


def to_answer(probabilities: Probabilities) -> NDArray[np.uint8]:
    """Class probabilities (C, D, H, W) as a server would send them: (C-1, D, H, W) uint8."""
    return np.asarray(np.rint(np.clip(probabilities[1:], 0, 1) * 255), dtype=np.uint8)
