"""Accuracy on labelled scans, through the client's own code and a real server, each mode beside each control."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.metrics import compute_dice
from numpy.typing import NDArray

from mixpriv import kernels
from mixpriv.bundle import Bundle
from mixpriv.client.brain import conform, extract_brain, load_extractor
from mixpriv.client.conform import Conformed, to_scan
from mixpriv.client.key import ClientKey, content_digest
from mixpriv.client.proxy import draw_weight, keep_inside, linear_unmix, mix, unmix, unpack_probabilities
from mixpriv.client.random import Stream
from mixpriv.client.reference import Reference, ReferenceModel, draw_reference
from mixpriv.client.volume import Volume, load_volume
from mixpriv.engine import load
from mixpriv.errors import InputError
from mixpriv.provenance import commit
from mixpriv.wire.transport import Segmenter

COUNTED = (1, 2, 3, 4)
"""Classes in the mean; external CSF at the rim of a skull-stripped scan is near black and only reported."""

Probabilities = NDArray[np.float32]
Control = Callable[[NDArray[np.float16]], NDArray[np.uint8]]
"""A network that a client could run alone: image (D, H, W) to answer (C-1, D, H, W)."""


@dataclass(frozen=True)
class Case:
    """A labelled scan. Visits of one person share ``subject``."""

    subject: str
    name: str
    scan: Path
    labels: Path


@dataclass(frozen=True)
class Score:
    """Dice of one class of one case with one method."""

    method: str
    subject: str
    case: str
    label: int
    dice: float


def find_cases(folder: Path, subjects: Sequence[str] = ()) -> list[Case]:
    """All ``sub-*/**/*_T1w.nii.gz`` with a ``_dseg.nii.gz`` beside it, of the named subjects or of all.

    Raises
    ------
    InputError
        no such case, or a named subject is missing.
    """
    cases = []
    for scan in sorted(folder.glob("sub-*/**/*_T1w.nii.gz")):
        labels = scan.with_name(scan.name.replace("_T1w.", "_dseg."))
        subject = scan.name.split("_")[0]
        if labels.is_file() and (not subjects or subject in subjects):
            cases.append(Case(subject, scan.name.removesuffix("_T1w.nii.gz"), scan, labels))
    missing = set(subjects) - {case.subject for case in cases}
    if missing or not cases:
        raise InputError(
            f"{folder}: expected labelled T1w scans of {', '.join(sorted(missing)) or 'any subject'}, got none"
        )
    return cases


@dataclass(frozen=True)
class Sent:
    """One mixture of a target: what the client knows and what came back."""

    reference: Reference
    weight: float
    answer: NDArray[np.uint8]


class Evaluator:
    """All methods on one bundle and one server. The key is made from a seed, so that a table can be made again."""

    def __init__(self, bundle: Bundle, segmenter: Segmenter, seed: int, control: Control | None) -> None:
        self.bundle, self.segmenter = bundle, segmenter
        self.key = ClientKey(hashlib.sha256(f"evaluation {seed}".encode()).digest())
        self.extractor, self.unmixer = load_extractor(bundle), load(bundle.unmixer_path)
        self.model = ReferenceModel.load(bundle.reference_path)
        self.average = average_brain(self.model)
        self.control = control

    def send(self, content: bytes, target: Conformed, index: int, weight: float | None) -> Sent:
        """Mix a target with its reference number ``index`` at a weight, drawn if None, and ask the server."""
        purpose = f"evaluation/{weight}"
        reference = draw_reference(self.model, Stream(self.key.derive(purpose, content, index)))
        share = weight or draw_weight(self.key.derive(f"{purpose}/weight", content, index), self.bundle.weight_range)
        return Sent(reference, share, self._ask(mix(target, reference, share)))

    def _ask(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        return np.asarray(self.segmenter.segment(mixture[None, None])[0])

    def unmix(self, sent: Sent) -> Probabilities:
        """Target probabilities by the bundle's D."""
        return unmix(sent.answer, sent.reference.labels, sent.weight, self.unmixer)

    def linear(self, sent: Sent) -> Probabilities:
        """Target probabilities by linear unmixing."""
        return linear_unmix(sent.answer, sent.reference.labels, sent.weight)

    def blanked(self, sent: Sent) -> Probabilities:
        """D without the server: its answer replaced by the average brain's share beside the reference's."""
        known = np.eye(len(self.average), dtype=np.float32)[sent.reference.labels].transpose(3, 0, 1, 2)
        answer = sent.weight * self.average + (1 - sent.weight) * known
        return unmix(to_answer(answer), sent.reference.labels, sent.weight, self.unmixer)

    def alone(self, target: Conformed) -> Probabilities:
        """A network of D's size on the scan itself, without a server."""
        assert self.control is not None  # noqa: S101 - asked for only then
        return unpack_probabilities(self.control(mix(target, None, 1.0)))

    def methods(self, content: bytes, target: Conformed, fused: int) -> dict[str, Callable[[], Probabilities]]:
        """Every method by its name in the table, in the table's order."""
        sent: dict[tuple[int, float | None], Sent] = {}

        def view(weight: float | None, index: int = 0) -> Sent:
            if (index, weight) not in sent:
                sent[index, weight] = self.send(content, target, index, weight)
            return sent[index, weight]

        def mean_of(count: int) -> Probabilities:
            total = self.unmix(view(None, 0))
            for index in range(1, count):
                kernels.accumulate(total, self.unmix(view(None, index)))
            return total / np.float32(count)

        methods: dict[str, Callable[[], Probabilities]] = {
            "none": lambda: unpack_probabilities(self._ask(mix(target, None, 1.0))),
            "mixup, a = 0.7": lambda: self.unmix(view(0.7)),
            "mixup, a = 0.5": lambda: self.unmix(view(0.5)),
            "mixup, a = 0.3": lambda: self.unmix(view(0.3)),
            "mixup, a drawn": lambda: self.unmix(view(None)),
            "linear unmixing, a = 0.7": lambda: self.linear(view(0.7)),
            "linear unmixing, a = 0.5": lambda: self.linear(view(0.5)),
            "linear unmixing, a drawn": lambda: self.linear(view(None)),
            "D, answer blanked": lambda: self.blanked(view(None)),
        }
        if fused > 1:
            methods[f"mixup, a drawn, K = {fused}"] = lambda: mean_of(fused)
        if self.control is not None:
            methods["network of D's size on the scan"] = lambda: self.alone(target)
        return methods

    def evaluate(self, case: Case, fused: int) -> list[Score]:
        """Dice of every method and class on one case, in the scan's own grid."""
        scan = load_volume(case.scan)
        truth = np.asanyarray(nib.Nifti1Image.from_filename(case.labels).dataobj)
        target = conform(scan, extract_brain(scan, self.extractor, self.bundle), self.bundle)
        content = content_digest(scan.voxels, scan.affine)
        scores = []
        for method, run in self.methods(content, target, fused).items():
            labels = self._restore(run(), target, scan)
            for label in range(1, len(self.bundle.classes)):
                scores.append(Score(method, case.subject, case.name, label, dice(labels == label, truth == label)))
        return scores

    def _restore(self, probabilities: Probabilities, target: Conformed, scan: Volume) -> NDArray[np.uint8]:
        own = np.array(probabilities, order="C")
        keep_inside(own, target.mask, 1.0)
        return to_scan(own, target.grid, scan)


def average_brain(model: ReferenceModel) -> Probabilities:
    """Mean tissue probabilities of the generator's atlas in the bundle's grid, (C, D, H, W) float32."""
    atlas = model.atlas.astype(np.float32) / 255
    tissues = range(int(model.tissue_of.max()) + 1)
    return np.stack([model.in_grid(atlas[model.tissue_of == tissue].sum(axis=0)) for tissue in tissues])


def to_answer(probabilities: Probabilities) -> NDArray[np.uint8]:
    """Class probabilities (C, D, H, W) as a server would send them: (C-1, D, H, W) uint8."""
    return np.asarray(np.rint(np.clip(probabilities[1:], 0, 1) * 255), dtype=np.uint8)


def dice(ours: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two masks of one shape (MONAI); 1 if both are empty."""
    pair = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (ours, truth)]
    return float(compute_dice(pair[0], pair[1], include_background=True, ignore_empty=False))


def bootstrap(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % percentile interval over subjects (one value each, 10,000 resamples)."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(10_000, len(values)))].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def per_subject(scores: Sequence[Score], method: str, labels: Sequence[int]) -> dict[str, float]:
    """Mean Dice of each subject: over the classes, then over the person's visits."""
    cases: dict[tuple[str, str], list[float]] = defaultdict(list)
    for score in scores:
        if score.method == method and score.label in labels:
            cases[score.subject, score.case].append(score.dice)
    subjects: dict[str, list[float]] = defaultdict(list)
    for (subject, _), values in cases.items():
        subjects[subject].append(float(np.mean(values)))
    return {subject: float(np.mean(values)) for subject, values in sorted(subjects.items())}


def write_scores(scores: Sequence[Score], path: Path) -> None:
    """All scores as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "subject", "case", "label", "dice"])
        writer.writerows([s.method, s.subject, s.case, s.label, f"{s.dice:.4f}"] for s in scores)


def table(scores: Sequence[Score], bundle: Bundle) -> list[str]:
    """The result as markdown: mean over the counted classes, difference to ``none``, each class, worst subject."""
    names = list(bundle.classes[1:])
    head = ["method", "mean Dice, classes 1-4 [95 %]", "difference to none [95 %]", *names, "worst subject"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    plain = per_subject(scores, "none", COUNTED)
    for method in dict.fromkeys(score.method for score in scores):
        mean = per_subject(scores, method, COUNTED)
        values = np.array(list(mean.values()))
        difference = values - np.array([plain[s] for s in mean])
        worst = min(mean, key=lambda s: mean[s])
        cells = [method, _interval(values, 3), _interval(difference, 3) if method != "none" else ""]
        for label in range(1, len(bundle.classes)):
            cells.append(f"{np.mean(list(per_subject(scores, method, [label]).values())):.3f}")
        lines.append(f"| {' | '.join([*cells, f'{worst} {mean[worst]:.3f}'])} |")
    return lines


def _interval(values: NDArray[np.float64], digits: int) -> str:
    mean, low, high = bootstrap(values)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def write_report(scores: Sequence[Score], bundle: Bundle, seed: int, split: str, command: str, path: Path) -> None:
    """Write one table with everything needed to make it again."""
    cases = {score.case for score in scores}
    subjects = {score.subject for score in scores}
    cost = bundle.extra.get("multiply_adds", {})
    ratio = cost["unmixer"] / cost["segmenter"] if cost else float("nan")
    lines = [
        f"# {bundle.name} {bundle.version}: accuracy on the {split} scans",
        "",
        f"{len(cases)} scans of {len(subjects)} subjects; Dice in the scan's own grid, through a real Triton server.",
        "Intervals: bootstrap over subjects (visits of one person averaged first), 10,000 resamples. External CSF is",
        "reported, not counted in the mean. *D, answer blanked*: in place of the server's answer the unmixer gets",
        "the average brain's. *Network of D's size*: trained on the same synthetic scans, it sees the scan itself.",
        "",
        *table(scores, bundle),
        "",
        f"D's multiply-adds are {100 * ratio:.1f} % of S's. Commit {commit()}, segmenter fingerprint "
        f"{bundle.fingerprint[:12]}, evaluation seed {seed}, references and weights from fresh keys.",
        "",
        f"Made by `{command}`.",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
