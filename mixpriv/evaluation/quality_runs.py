"""Results of scans that were made worse on purpose: what can be seen of each, beside its true Dice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.datasets import Case
from mixpriv.errors import InputError
from mixpriv.evaluation.degradation import KINDS, degrade
from mixpriv.evaluation.methods import Methods
from mixpriv.evaluation.metrics import dice
from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
from mixpriv.imaging.resample import Conformed, to_scan
from mixpriv.imaging.volume import Volume, load_volume
from mixpriv.key import content_digest
from mixpriv.labels import Labelling
from mixpriv.protection.modes import Local, Mixup, Mode, Plain, Probabilities, Shielded
from mixpriv.quality.signs import Labels, Signs, coarse_labels, signs_of
from mixpriv.timing import Timings
from mixpriv.wire.transport import Segmenter

AS_IT_IS = "as it is"
CALIBRATE, REPORT = "calibrate", "report"
"""What people are for."""
REFERENCES = 2
"""Of the mode with several."""
OTHERS = 3
"""Of so many scans one is segmented in another mode, too."""


@dataclass(frozen=True)
class Person:
    """A scan of somebody: ``part`` says what it is for; ``labels`` is (I, J, K), or None of a scan without labels."""

    name: str
    part: str
    scan: Volume
    labels: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Trial:
    """One result. ``dice``: of each class but the background, empty without labels. ``signs``: None if refused."""

    person: str
    part: str
    kind: str
    severity: float
    mode: str
    dice: tuple[float, ...]
    signs: Signs | None

    @property
    def case(self) -> str:
        """Whose scan it is, and how it was made worse."""
        return f"{self.person} {self.kind} {self.severity:.3f}"


def labelled(cases: Sequence[Case], bundle: Bundle, part: str) -> Iterator[Person]:
    """The people of labelled scans, each by the first visit."""
    seen, labelling = set[str](), Labelling.of(bundle)
    for case in cases:
        if case.subject not in seen:
            seen.add(case.subject)
            labels = labelling.classes_of(np.asanyarray(nib.Nifti1Image.from_filename(case.labels).dataobj))
            yield Person(case.subject, part, load_volume(case.scan), labels)


def unlabelled(paths: Sequence[Path], part: str) -> Iterator[Person]:
    """Good scans of people whose labels nobody knows."""
    for path in paths:
        yield Person(path.name.split(".")[0], part, load_volume(path), None)


def first_trial(person: Person) -> Trial:
    """That of a scan as it is, before it is done."""
    return Trial(person.name, person.part, AS_IT_IS, 0.0, "refused", (), None)


class Trials:
    """Makes scans worse, segments them and looks at the results; with a seed, always the same."""

    def __init__(self, own: Methods, segmenter: Segmenter, seed: int) -> None:
        self.own, self.segmenter, self.seed = own, segmenter, seed
        self._preprocess = load_preprocessor(own.bundle)

    def of(self, person: Person, draws: int, done: Collection[str]) -> Iterator[list[Trial]]:
        """All trials of a person, scan after scan: as it is, and each kind of degradation with so many severities.

        ``done``: cases that are left out.
        """
        for draw in range(draws):
            for index, kind in enumerate(KINDS):
                rng = np.random.default_rng([self.seed, _number(person.name), index, draw])
                trial = Trial(person.name, person.part, kind, round(float(rng.random()), 3), "refused", (), None)
                if trial.case not in done:
                    worse = degrade(person.scan, kind, trial.severity, rng)
                    yield self._results(trial, person, worse, draw + index + _number(person.name))

    def untouched(self, person: Person) -> list[Trial]:
        """The trials of a scan as it is."""
        return self._results(first_trial(person), person, person.scan, _number(person.name))

    def _results(self, trial: Trial, person: Person, scan: Volume, turn: int) -> list[Trial]:
        """The result of the cheapest mode and now and then of another, in turn; one refusal if no brain is found."""
        try:
            conformed = self._preprocess(scan, Timings())
        except InputError:
            return [trial]
        modes = self._modes()
        names = list(modes)
        chosen = names[:1]
        if turn % OTHERS == 0:
            chosen.append(names[1 + (turn // OTHERS) % (len(names) - 1)])
        return [self._result(replace(trial, mode=name), modes[name], person, scan, conformed) for name in chosen]

    def _modes(self) -> Mapping[str, Mode]:
        """First the one that costs least."""
        modes: dict[str, Mode] = {"local": Local()} if self.own.bundle.unmixer_alone else {}
        modes |= {"none": Plain(), "mixup": Mixup(), f"mixup, K = {REFERENCES}": Mixup(references=REFERENCES)}
        if self.own.bundle.shielded is not None:
            modes["shielded"] = Shielded(check=False)
        return modes

    def _result(self, trial: Trial, mode: Mode, person: Person, scan: Volume, conformed: Conformed) -> Trial:
        probabilities, each = self._reveal(mode, scan, conformed)
        restored = to_scan(probabilities, conformed.grid, scan, conformed.mask)
        signs = signs_of(probabilities, conformed, restored, scan.spacing_mm, each)
        scores: tuple[float, ...] = ()
        if person.labels is not None:
            told = restored
            if scan.shape != person.scan.shape:  # what is worth comparing is the grid that the labels have
                told = to_scan(probabilities, conformed.grid, person.scan, conformed.mask)
            scores = tuple(dice(told == k, person.labels == k) for k in range(1, len(self.own.bundle.classes)))
        return replace(trial, dice=scores, signs=signs)

    def _reveal(self, mode: Mode, scan: Volume, conformed: Conformed) -> tuple[Probabilities, list[Labels]]:
        """What a client of this mode would make of the scan, and the labels by each reference if there are several."""
        requests = list(mode.requests(lambda: conformed, self.own.draws(content_digest(scan.voxels, scan.affine))))
        answers = [np.asarray(self.segmenter.segment(request.image[None])[0]) for request in requests]
        secrets = [request.secret for request in requests]
        each = []
        if len(requests) > 1:
            alone = zip(answers, secrets, strict=True)
            each = [coarse_labels(mode.reveal(conformed, [a], [s], self.own.unmixer)) for a, s in alone]
        return np.ascontiguousarray(mode.reveal(conformed, answers, secrets, self.own.unmixer)), each


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


def encode(trial: Trial) -> str:
    """A trial as a line of JSON."""
    return json.dumps({**asdict(trial), "signs": None if trial.signs is None else _plain(asdict(trial.signs))})


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: np.round(v, 5).tolist() if isinstance(v, np.ndarray) else v for k, v in fields.items()}


def read_trials(path: Path) -> list[Trial]:
    """Trials that `encode` wrote, one on each line."""
    trials = []
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        signs = fields.pop("signs")
        if signs is not None:
            known: dict[str, Any] = {k: np.array(v) if isinstance(v, list) else v for k, v in signs.items()}
            signs = Signs(**known)
        trials.append(Trial(**{**fields, "dice": tuple(fields["dice"])}, signs=signs))
    return trials
