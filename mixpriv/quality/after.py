"""Is the result right? The score, and checks that say what is odd about it. None of them causes a further request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Bundle, Limit
from mixpriv.imaging.resample import Conformed
from mixpriv.quality.check import Check, Measure, judge
from mixpriv.quality.norms import ADULT, OLDEST, SIDES, Norms, Values, deviations, read_norms
from mixpriv.quality.signs import Labels, Signs, signs_of

_WRONG = "the labels may be wrong"


@dataclass(frozen=True)
class Findings:
    """What the checks of a result found; ``flags``: names of the failed ones that concern a class, by its index."""

    checks: tuple[Check, ...] = ()
    flags: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What failed, in words."""
        return tuple(check.words for check in self.checks if check.failed)


@dataclass(frozen=True)
class ResultChecker:
    """Checks the results of a bundle; one without norms finds nothing."""

    classes: tuple[str, ...]
    norms: Norms | None = field(repr=False)

    @staticmethod
    def of(bundle: Bundle) -> ResultChecker:
        """Load what a bundle's results are compared with; `InputError` if that is damaged."""
        return ResultChecker(bundle.classes, read_norms(bundle))

    def __call__(
        self,
        probabilities: NDArray[np.float32],
        conformed: Conformed,
        restored: Labels,
        spacing_mm: Values,
        each: Sequence[Labels] = (),
        age: float | None = None,
    ) -> Findings:
        """Check a result, see `signs_of`; ``age`` of the person in years, None if unknown."""
        if self.norms is None:
            return Findings()
        signs = signs_of(probabilities, conformed, restored, spacing_mm, each)
        return judge_signs(signs, self.norms, self.classes, age)


def symptoms(signs: Signs, norms: Norms) -> dict[str, float]:
    """How far each sign is beyond what is normal, at either side, 0 or more: the mean over the counted classes."""
    found = {}
    for name, z in deviations(signs, norms).items():
        for side, direction in zip(SIDES, (-1, 1), strict=True):
            found[f"{name} {side}"] = float(np.log1p(np.maximum(0, direction * z - 1)).mean())
    return found


def score_of(signs: Signs, norms: Norms) -> float:
    """The mean Dice of the counted classes that such a result can be expected to have, 0 to 1."""
    found = symptoms(signs, norms)
    return float(np.clip(norms.best - sum(weight * found[name] for name, weight in norms.weights.items()), 0, 1))


def judge_signs(signs: Signs, norms: Norms, classes: Sequence[str], age: float | None = None) -> Findings:
    """All checks of a result, each with a value beside its limit; of those of each class, the class farthest off."""
    whole = _whole(signs, norms)
    flags: dict[int, list[str]] = {k: [] for k in range(1, len(classes))}
    for check in whole:
        for names in flags.values() if check.failed else ():
            names.append(check.name)
    checks = whole
    for told in _of_classes(signs, norms, age):
        each = [told.judge(n, classes[k]) for n, k in enumerate(norms.counted)]
        for k, check in zip(norms.counted, each, strict=True):
            flags[k] += [check.name] if check.failed else []
        checks.append(each[told.farthest])
    return Findings(tuple(checks), {k: tuple(names) for k, names in flags.items()})


def _whole(signs: Signs, norms: Norms) -> list[Check]:
    """Checks of the result as a whole."""
    sure = float(signs.certainty[np.array(norms.counted) - 1].mean())
    found = [
        ("score", score_of(signs, norms), "expected mean Dice of the result", "it should be looked at"),
        ("certainty", sure, "how sure the labels are, as an expected Dice", _WRONG),
        ("fit", signs.smooth_contrast, "share of the scan's contrast that the labels explain", _WRONG),
    ]
    if signs.agreement is not None:
        found.append(("agreement", signs.agreement, "mean Dice between the references", _WRONG))
    return [
        judge(name, value, Limit(warn_below=_short(norms.limits[name])), Measure(about, "", too_low=meaning))
        for name, value, about, meaning in found
    ]


@dataclass(frozen=True)
class _OfClasses:
    """A check of each counted class: values and ends of what is expected, in a unit."""

    name: str
    value: Values
    high: Values
    measure: Measure
    low: Values | None = None

    @property
    def farthest(self) -> int:
        """The class that is farthest beyond an end, or nearest to one."""
        beyond = self.value / np.maximum(self.high, 1e-9)
        if self.low is not None:
            beyond = np.maximum(beyond, self.low / np.maximum(self.value, 1e-9))
        return int(beyond.argmax())

    def judge(self, n: int, name: str) -> Check:
        low = None if self.low is None else _short(self.low[n])
        about = Measure(self.measure.about.format(name), self.measure.unit, self.measure.too_low, self.measure.too_high)
        return judge(self.name, float(self.value[n]), Limit(warn_below=low, warn_above=_short(self.high[n])), about)


def _of_classes(signs: Signs, norms: Norms, age: float | None) -> list[_OfClasses]:
    own, reach = np.array(norms.counted) - 1, norms.limits
    left, pieces = norms.normal["symmetry"], norms.normal["fragments"]
    far_mm = norms.spacing_mm * np.linalg.norm(signs.place[own] - norms.normal["place"].mean, axis=1)
    half = Measure("left half of {}", "%", "less than in others", "more than in others")
    found = [
        _OfClasses(
            "sides",
            100.0 * signs.left[own],
            100.0 * (left.mean + reach["sides"] * left.deviation),
            half,
            100.0 * (left.mean - reach["sides"] * left.deviation),
        ),
        _OfClasses(
            "fragments",
            100.0 * signs.fragments[own],
            100.0 * np.exp(pieces.mean + reach["fragments"] * pieces.deviation),
            Measure("small pieces of {}", "%", too_high=_WRONG),
        ),
        _OfClasses(
            "place",
            far_mm,
            np.full(len(own), reach["place"]),
            Measure("distance of {} from its usual place", "mm", too_high=_WRONG),
        ),
    ]
    return found if age is not None and age < ADULT else [_volumes(signs, norms, age), *found]


def _volumes(signs: Signs, norms: Norms, age: float | None) -> _OfClasses:
    """The shares of the brain that adults have, or people of an age; told in ml."""
    normal, own = norms.normal["volume"], np.array(norms.counted) - 1
    ages = (ADULT, OLDEST) if age is None else (age, age)
    drifts = np.sort([norms.drift * (year - norms.age) for year in ages], axis=0)
    reach = norms.limits["volume"] * normal.deviation
    low, high = (signs.mask_ml * np.exp(normal.mean + drifts[n] + side * reach) for n, side in ((0, -1), (1, 1)))
    who = "adults" if age is None else f"people of {age:g} years"
    told = Measure("volume of {}", "ml", f"less than {who} have", f"more than {who} have")
    return _OfClasses("volume", signs.mask_ml * signs.share[own], high, told, low)


def _short(value: float) -> float:
    """A limit as it is shown."""
    return float(f"{value:.3g}")
