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
from mixpriv.audit.findings import Finding
from mixpriv.audit.linkage import Linker
from mixpriv.audit.people import Visit, rescan
from mixpriv.audit.scene import linked
from mixpriv.bundle import Bundle, Shielded
from mixpriv.datasets import Case
from mixpriv.evaluation.metrics import Score, dice, hd95_mm, volume_similarity
from mixpriv.imaging.preprocess.preprocessor import load_conformer
from mixpriv.imaging.resample import Conformed, to_scan
from mixpriv.imaging.volume import load_volume
from mixpriv.key import ClientKey, content_digest
from mixpriv.protection.keystream import Stream
from mixpriv.protection.mixing import Unmixer, draw_weight, linear_unmix, mix, straighten, unpack_probabilities
from mixpriv.protection.reference import Reference, ReferenceModel, draw_reference
from mixpriv.protection.warp import Warp, draw_warp, undo_warp
from mixpriv.reid.features import Image, coarsen, working_factor
from mixpriv.timing import Stages
from mixpriv.training.proxies import add_noise
from mixpriv.wire.transport import Segmenter

Probabilities = NDArray[np.float32]
Network = Callable[[NDArray[np.float16]], NDArray[np.uint8]]
"""A network that is not the bundle's S: image (D, H, W) to answer (C-1, D, H, W)."""


NONE, DRAWN, SHIELDED = "none", "mixup, a drawn", "shielded, a drawn"
BLANKED, ALONE = "D, answer blanked", "network of D's size on the scan"
"""What a client could do without the server."""

SHIELDED_BLANKED = f"{BLANKED}, shielded"


Answers = dict[tuple[Network | None, bytes], tuple[NDArray[np.uint8], float]]
"""What a network, None for the bundle's S, answered to an image, by its digest; and in how many seconds."""


@dataclass(frozen=True)
class Proxy:
    """What is sent in place of a scan, beside what only the client knows of it: ``plain`` is the scan itself."""

    image: NDArray[np.float16] = field(repr=False)
    plain: NDArray[np.float16] = field(repr=False)
    reference: Reference | None = field(default=None, repr=False)
    weight: float = 1.0
    warp: Warp | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Method:
    """Protect a target (proxy number ``index`` of several) and reveal it in the answer; averaged over ``views``."""

    name: str
    protect: Callable[[bytes, Conformed, int], Proxy]
    reveal: Callable[[Proxy, NDArray[np.uint8]], Probabilities]
    views: int = 1
    segment: Network | None = None  # in place of the bundle's S
    sends: bool = True  # else the client does without a server


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
        self.bundle, self.unmixer = bundle, Unmixer.of(bundle)
        self.key = ClientKey(hashlib.sha256(f"evaluation {seed}".encode()).digest())
        self.model = ReferenceModel.of(bundle)
        self.average = self.model.average()

    def all(
        self,
        weights: Sequence[float],
        fused: Sequence[int],
        control: Network | None,
        shielded: Sequence[float] = (),
    ) -> Iterator[Method]:
        """Every method in the table's order, with fixed weights of the target and numbers of references to average.

        ``shielded``: fixed weights in that mode, beside the ends of the bundle's range.
        """
        yield Method(NONE, self.plain, self.read)
        for weight in weights:
            yield Method(f"mixup, a = {weight}", partial(self.mixture, weight), self.unmix)
        yield Method(DRAWN, partial(self.mixture, None), self.unmix)
        for views in fused:
            yield Method(f"{DRAWN}, K = {views}", partial(self.mixture, None), self.unmix, views)
        for weight in weights:
            yield Method(f"linear unmixing, a = {weight}", partial(self.mixture, weight), self.linear)
        yield Method("linear unmixing, a drawn", partial(self.mixture, None), self.linear)
        protect = self.plain if self.bundle.unmixer_alone else partial(self.mixture, None)
        yield Method(BLANKED, protect, self.blanked, sends=False)
        if control is not None:
            yield Method(ALONE, self.plain, self.read, segment=control, sends=False)
        how = self.bundle.shielded
        if how is not None:
            for weight in sorted({*shielded, *how.weight_range}, reverse=True):
                yield Method(f"shielded, a = {weight}", partial(self.mixture, weight, how=how), self.unmix)
            drawn = partial(self.mixture, None, how=how)
            yield Method(SHIELDED, drawn, self.unmix)
            if not self.bundle.unmixer_alone:  # else it is the same as of mixtures that are not bent
                yield Method(SHIELDED_BLANKED, drawn, self.blanked, sends=False)

    def rival(self, proxy: str, strength: float, network: Network) -> Method:
        """Another method with a network of its own; `PROXIES` says what its strength is."""
        methods = {
            "warp": Method(f"warp, {strength:g} mm", partial(self.warped, strength), self.unwarp, segment=network),
            "noise": Method(f"noise, {strength:g}", partial(self.noisy, strength), self.read, segment=network),
        }
        return methods[proxy]

    def plain(self, _content: bytes, target: Conformed, _index: int) -> Proxy:
        """The scan itself."""
        image = mix(target, None, 1.0)
        return Proxy(image, image)

    def mixture(
        self, weight: float | None, content: bytes, target: Conformed, index: int, how: Shielded | None = None
    ) -> Proxy:
        """The scan mixed with a reference of its own at a weight, drawn if None; with ``how`` as in mode shielded."""
        purpose = f"evaluation/{weight}" if how is None else f"evaluation/shielded/{weight}"
        reference = draw_reference(self.model, Stream(self.key.derive(purpose, content, index)))
        seed = self.key.derive(f"{purpose}/weight", content, index)
        drawn = draw_weight(seed, self.bundle.weight_range if how is None else how.weight_range)
        share = drawn if weight is None else weight
        warp = None if how is None else self._warp(f"{purpose}/warp", how.warp_mm, content, index)
        return Proxy(mix(target, reference, share, warp), mix(target, None, 1.0), reference, share, warp)

    def _warp(self, purpose: str, mean_mm: float, content: bytes, index: int) -> Warp:
        stream = Stream(self.key.derive(purpose, content, index))
        return draw_warp(stream, self.bundle.grid_shape, mean_mm, self.bundle.spacing_mm)

    def warped(self, strength: float, content: bytes, target: Conformed, index: int) -> Proxy:
        """The scan bent by a warp of its own (Kim et al. 2020)."""
        warp = self._warp(f"evaluation/warp/{strength}", strength, content, index)
        return Proxy(mix(target, None, 1.0, warp), mix(target, None, 1.0), warp=warp)

    def noisy(self, strength: float, content: bytes, target: Conformed, index: int) -> Proxy:
        """The scan in noise."""
        stream = Stream(self.key.derive(f"evaluation/noise/{strength}", content, index))
        image = mix(target, None, 1.0)
        return Proxy(add_noise(image, strength, stream), image)

    def read(self, _proxy: Proxy, answer: NDArray[np.uint8]) -> Probabilities:
        """Take the answer as it is."""
        return unpack_probabilities(answer)

    def unmix(self, proxy: Proxy, answer: NDArray[np.uint8]) -> Probabilities:
        """Unmix by the bundle's D, straightened before if what was sent was bent."""
        straight = answer if proxy.warp is None else straighten(answer, proxy.warp)
        return self.unmixer(straight, _labels(proxy), proxy.weight, proxy.plain[None])

    def unwarp(self, proxy: Proxy, answer: NDArray[np.uint8]) -> Probabilities:
        """Bend the answer back."""
        assert proxy.warp is not None  # noqa: S101 - what was warped has a warp
        return undo_warp(unpack_probabilities(answer), proxy.warp)

    def linear(self, proxy: Proxy, answer: NDArray[np.uint8]) -> Probabilities:
        """Unmix linearly."""
        return linear_unmix(answer, _labels(proxy), proxy.weight)

    def blanked(self, proxy: Proxy, _answer: NDArray[np.uint8]) -> Probabilities:
        """D without the server: with no answer, or with the average anatomy's share in its place if it needs one."""
        if self.bundle.unmixer_alone:
            return self.unmixer.alone(proxy.plain[None])
        known = np.eye(len(self.average), dtype=np.float32)[_labels(proxy)].transpose(3, 0, 1, 2)
        answer = proxy.weight * self.average + (1 - proxy.weight) * known
        return self.unmixer(to_answer(answer), _labels(proxy), proxy.weight, proxy.plain[None])


@dataclass(frozen=True)
class Linkage:
    """What linkage without training makes of what a method sends (attack A1, by the way that works best here).

    ``first``: how often the right person came first. ``above``: how often a right scan scored above a wrong one.
    """

    first: Finding
    above: Finding


class Evaluator:
    """All methods on case after case through one server; ``costs`` fills up as it goes."""

    def __init__(self, bundle: Bundle, segmenter: Segmenter, methods: Iterable[Method]) -> None:
        self.bundle, self.segmenter, self.conformer = bundle, segmenter, load_conformer(bundle)
        self.methods = list(methods)
        self.costs = {method.name: Cost() for method in self.methods}
        self._factor = working_factor(bundle.grid_shape, bundle.spacing_mm)
        self._seen: dict[str, list[Image]] = {m.name: [] for m in self.methods if m.sends}
        self._gallery: list[Image] = []
        self._people: list[str] = []

    def evaluate(self, case: Case) -> Iterator[Score]:
        """Scores of every method and class on one case, in the scan's own grid."""
        scan = load_volume(case.scan)
        truth = np.asanyarray(nib.Nifti1Image.from_filename(case.labels).dataobj)
        target = self.conformer(scan, Stages())
        content = content_digest(scan.voxels, scan.affine)
        answers: Answers = {}
        self._people.append(case.subject)
        self._gallery.append(coarsen(rescan(Visit(case.subject, case.name, content, target), 1).image, self._factor))
        for method in self.methods:
            proxies = [method.protect(content, target, index) for index in range(method.views)]
            if method.sends:
                mean = np.mean([proxy.image.astype(np.float32) for proxy in proxies], axis=0)
                self._seen[method.name].append(coarsen(mean, self._factor))
            probabilities = self._reveal(method, proxies, answers)
            labels = to_scan(probabilities, target.grid, scan, target.mask)
            for label in range(1, len(self.bundle.classes)):
                pair = labels == label, truth == label
                yield Score(
                    method.name, case.subject, case.name, label,
                    dice(*pair), hd95_mm(*pair, scan.spacing_mm), volume_similarity(*pair),
                )  # fmt: skip

    def linkage(self) -> dict[str, Linkage]:
        """Whose scan each method sent: linked to a gallery of simulated second visits of the people evaluated so far.

        `mixpriv audit` has more attacks, real second visits where there are some, and several client keys.
        """
        linker = Linker.of(self._gallery, self._factor * self.bundle.spacing_mm)
        result, known = {}, {}
        for name, images in self._seen.items():
            digest = hashlib.sha256(np.stack(images).tobytes()).digest()  # methods that differ in S or D send the same
            if digest not in known:
                found = {f.figure: f for f in linked("A1", name, linker, self._people, images, self._people)}
                known[digest] = Linkage(found["rank-1, best way"], found["AUC, best way"])
            result[name] = known[digest]
        return result

    def _reveal(self, method: Method, proxies: Sequence[Proxy], answers: Answers) -> Probabilities:
        """Sum of the revealed probabilities over a method's views; an image sent before is not sent again."""
        total: Probabilities | None = None
        sent = received = 0
        seconds = reveal_s = 0.0
        for proxy in proxies:
            sent_to = method.segment, hashlib.sha256(proxy.image.tobytes()).digest()
            if sent_to not in answers:
                begin = time.perf_counter()
                answer = (method.segment or self._ask)(proxy.image)
                answers[sent_to] = answer, time.perf_counter() - begin
            answer, segment_s = answers[sent_to]
            begin = time.perf_counter()
            part = np.array(method.reveal(proxy, answer), order="C")
            reveal_s += time.perf_counter() - begin
            if method.sends:
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


def to_answer(probabilities: Probabilities) -> NDArray[np.uint8]:
    """Class probabilities (C, D, H, W) as a server would send them: (C-1, D, H, W) uint8."""
    return np.asarray(np.rint(np.clip(probabilities[1:], 0, 1) * 255), dtype=np.uint8)
