"""Scan after scan, every method: what is sent, how well the scan is segmented, and whether it can be linked."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mixpriv.audit.cohort import Visit, rescan
from mixpriv.audit.context import linked
from mixpriv.audit.findings import Finding
from mixpriv.audit.linkage import Linker
from mixpriv.client.restore import merged, restore
from mixpriv.datasets import Case
from mixpriv.evaluation.method_id import MethodId
from mixpriv.evaluation.methods import Method, Methods, Network
from mixpriv.evaluation.metrics import Score, dice, hd95_mm, volume_similarity
from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
from mixpriv.imaging.resample import Conformed
from mixpriv.imaging.volume import load_volume
from mixpriv.key import content_digest
from mixpriv.labels import Labelling
from mixpriv.protection.draws import KeyedDraws
from mixpriv.protection.modes import Answer, Probabilities, Protected
from mixpriv.reid.features import Image, coarsen, working_factor
from mixpriv.timing import Timings
from mixpriv.wire.transport import Segmenter

Answers = dict[tuple[Network | None, bytes], tuple[Answer, float]]
"""What a network, None for the bundle's S, answered to an image, by its digest; and in how many seconds."""


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


@dataclass(frozen=True)
class Linkage:
    """What linkage without training makes of what a method sends (attack A1, by the way that works best here).

    ``first``: how often the right person came first. ``above``: how often a right scan scored above a wrong one.
    """

    first: Finding
    above: Finding


class Evaluator:
    """All methods on case after case through one server; ``costs`` fills up as it goes.

    ``tissues``: what is scored are the tissues that the bundle's classes merge to.
    """

    def __init__(self, own: Methods, segmenter: Segmenter, methods: Iterable[Method], *, tissues: bool = False) -> None:
        self.own, self.segmenter, self.methods = own, segmenter, list(methods)
        self.labelling = Labelling.of(own.bundle, tissues=tissues)
        bundle = own.bundle
        self.preprocess, self.costs = load_preprocessor(bundle), {method.id: Cost() for method in self.methods}
        self._factor = working_factor(bundle.grid_shape, bundle.spacing_mm)
        self._seen: dict[MethodId, list[Image]] = {m.id: [] for m in self.methods if m.sends}
        self._gallery: list[Image] = []
        self._people: list[str] = []

    def evaluate(self, case: Case) -> Iterator[Score]:
        """Scores of every method and class on one case, in the scan's own grid; of two sides their mean."""
        scan = load_volume(case.scan)
        known, truth = self.labelling.read(np.asanyarray(nib.Nifti1Image.from_filename(case.labels).dataobj))
        conformed = self.preprocess(scan, Timings())
        content = content_digest(scan.voxels, scan.affine)
        draws, answers = self.own.draws(content), Answers()
        visit = Visit(case.subject, case.name, content, conformed)
        self._people.append(case.subject)
        self._gallery.append(coarsen(rescan(visit, 1).image, self._factor))
        for method in self.methods:
            requests = requests_of(method, conformed, draws)
            if method.sends:
                mean = np.mean([request.image[0].astype(np.float32) for request in requests], axis=0)
                self._seen[method.id].append(coarsen(mean, self._factor))
            probabilities = self._reveal(method, conformed, requests, answers)
            probabilities = merged(probabilities, self.labelling)
            labels = restore(probabilities, conformed, scan, self.labelling) * known
            for of in self.labelling.classes[1:]:
                sides = [(labels == side.index, truth == side.index) for side in self.labelling.sides(of)]
                yield Score(method.id, case.subject, case.name, of.index, *_mean(sides, scan.spacing_mm))

    def linkage(self) -> dict[MethodId, Linkage]:
        """Whose scan each method sent: linked to a gallery of simulated second visits of the people evaluated so far.

        `mixpriv audit` has more attacks, real second visits where there are some, and several client keys.
        """
        linker = Linker.of(self._gallery, self._factor * self.own.bundle.spacing_mm)
        result, known = {}, {}
        for name, images in self._seen.items():
            digest = hashlib.sha256(np.stack(images).tobytes()).digest()  # methods that differ in S or D send the same
            if digest not in known:
                found = {f.figure: f for f in linked("A1", str(name), linker, self._people, images, self._people)}
                known[digest] = Linkage(found["rank-1, best way"], found["AUC, best way"])
            result[name] = known[digest]
        return result

    def _reveal(
        self, method: Method, conformed: Conformed, requests: list[Protected], answers: Answers
    ) -> Probabilities:
        asks = method.sends or method.network is not None
        said = [self._answer(method.network, request.image, answers) for request in requests] if asks else []
        got = [answer for answer, _ in said]
        begin = time.perf_counter()
        if method.reveal is None:
            secrets = [request.secret for request in requests]
            probabilities = method.mode.reveal(conformed, got, secrets, self.own.unmixer)
        else:
            probabilities = method.reveal(conformed, got, requests)
        reveal_s = time.perf_counter() - begin
        sent = sum(request.image.nbytes for request in requests) if method.sends else 0
        received = sum(answer.nbytes for answer in got) if method.sends else 0
        self.costs[method.id].add(sent, received, sum(seconds for _, seconds in said), reveal_s)
        return np.ascontiguousarray(probabilities)

    def _answer(self, network: Network | None, image: NDArray[np.float16], answers: Answers) -> tuple[Answer, float]:
        """What a network says, and in how many seconds; an image that it saw before is not shown again."""
        sent_to = network, hashlib.sha256(image.tobytes()).digest()
        if sent_to not in answers:
            begin = time.perf_counter()
            answer = self.segmenter.segment(image[None])[0] if network is None else network(image[0])
            answers[sent_to] = np.asarray(answer), time.perf_counter() - begin
        return answers[sent_to]


def requests_of(method: Method, conformed: Conformed, draws: KeyedDraws) -> list[Protected]:
    """All requests of a method for a scan, as the client would make them with the same draws."""
    return list(method.mode.requests(lambda: conformed, draws))


def _mean(
    sides: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]], spacing_mm: Iterable[float]
) -> tuple[float, float, float]:
    """Dice, 95 % Hausdorff distance and volume similarity, the mean over pairs of ours and the truth."""
    spacing = tuple(spacing_mm)
    distances = [hd95_mm(*pair, spacing) for pair in sides]
    return (
        float(np.mean([dice(*pair) for pair in sides])),
        float(np.mean(distances)),
        float(np.mean([volume_similarity(*pair) for pair in sides])),
    )
