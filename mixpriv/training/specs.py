"""What a training config says, part by part: small values that the code of training is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mixpriv.bundle import Alignment
from mixpriv.errors import InputError
from mixpriv.protection.warp import MAX_MEAN_MM

SEEN = {"labels": 0, "target": 1, "reference": 1, "reference and mixture": 2}
"""What D sees beside the answer, the reference's labels and the weight: number of images."""

RIVALS = ("warp", "noise")
"""Methods to compare with. Strength: mean displacement in mm; standard deviation of the noise."""


@dataclass(frozen=True)
class Task:
    """What is segmented in which grid, as the bundle will say it; heads have an ``alignment``, crops have none."""

    classes: tuple[str, ...]
    grid_shape: tuple[int, int, int]
    spacing_mm: float
    alignment: Alignment | None
    modalities: tuple[str, ...] = ("T1w",)


@dataclass(frozen=True)
class Region:
    """What ``[region]`` in a training config says: what a crop shows, the sizes that are accepted, and the split.

    Every ``held_out_every``-th case by name is held out; ``tissues`` intensity classes are found by k-means.
    """

    name: str
    min_mm: tuple[float, float, float]
    max_mm: tuple[float, float, float]
    held_out_every: int
    tissues: int


@dataclass(frozen=True)
class Folds:
    """What ``[folds]`` in a training config says: cross-validation over subjects, a person's visits together.

    ``extractor``: the bundle whose extractor finds the brains. ``folding``: label values from dark to bright that fold
    (CSF, cortex, white matter), the others are solid in references. ``held_out``: the fold that is not trained on.
    """

    count: int
    extractor: str
    folding: tuple[int, ...]
    held_out: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < self.count:
            raise InputError(f"fold: expected 0 to {self.count - 1}, got {self.held_out}")

    def subjects(self, everyone: Sequence[str]) -> list[str]:
        """Who is held out."""
        return sorted(set(everyone))[self.held_out :: self.count]


@dataclass(frozen=True)
class Tumours:
    """What ``[tumours]`` in a training config says: a folder for each case, skull-stripped.

    ``images``: file name of each modality, in the bundle's order. ``labels``: file name of the label map. ``anatomy``:
    the bundle whose atlas healthy references have. ``tissues_in``: the T1-weighted modality, counted from 0.
    ``layers``: label values of a reference's tumour from outside in.
    """

    images: tuple[str, ...]
    labels: str
    anatomy: str
    tissues_in: int
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Unlabelled:
    """What ``[unlabelled]`` in a training config says.

    ``share``: of the targets that are real. ``extractor``: the bundle whose extractor finds the brains. ``held_out``:
    people who are not trained on, since an audit has to be of people that no training saw.
    """

    share: float
    extractor: str
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the random deformation; ``flip``: probability of a left-right flip.

    ``ventricles_mm``: how far walls of ventricles move at most. ``subsamples``: a voxel is painted from as many points
    along each axis; of more than one its labels are the shares of the classes in it.
    """

    rotation_deg: float = 9.0
    scale: float = 0.05
    shear: float = 0.02
    shift_voxels: float = 2.0
    elastic_voxels: float = 1.6
    flip: float = 0.5
    ventricles_mm: float = 0.0
    subsamples: int = 1


@dataclass(frozen=True)
class Data:
    """Where examples come from: label maps of heads, or what one of ``region``, ``folds`` and ``tumours`` says.

    ``crop``: size of an example, voxels. ``references``: so many are drawn, their warp ``reference_warp_mm`` long.
    """

    crop: tuple[int, int, int]
    references: int
    reference_warp_mm: float
    batch: int = 1
    region: Region | None = None
    folds: Folds | None = None
    tumours: Tumours | None = None
    unlabelled: Unlabelled | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Networks:
    """Sizes of S and D. ``unmixer_sees``: one of `SEEN`; a D that sees the target learns to do without an answer."""

    filters: tuple[int, ...]
    unmixer_filters: tuple[int, ...]
    unmixer_sees: str = "labels"

    def __post_init__(self) -> None:
        if self.unmixer_sees not in SEEN:
            raise InputError(f"unmixer_sees: expected one of {', '.join(SEEN)}, got {self.unmixer_sees!r}")


@dataclass(frozen=True)
class Mixing:
    """How examples are mixed. A step's batch is all mixtures or, in the first steps and a share of the others, plain.

    Of the mixtures a share is as in mode ``shielded``: with weights of their own, and warped before S sees them.
    """

    weight_range: tuple[float, float]
    plain_share: float
    plain_steps: int
    shielded_share: float = 0.0
    shielded_range: tuple[float, float] = (0.1, 0.4)
    shielded_warp_mm: float = MAX_MEAN_MM


@dataclass(frozen=True)
class Losses:
    """What counts: L_unmix ``unmix_lambda`` times, an error in each class as many times as ``class_weights`` say.

    All classes count alike if there are none. For ablations, ``joint=False`` keeps the gradient of L_unmix from S.
    """

    unmix_lambda: float
    class_weights: tuple[float, ...] = ()
    joint: bool = True


@dataclass(frozen=True)
class Schedule:
    """100 steps of linear warm-up, then cosine to 2 % of ``learning_rate`` at the last step.

    ``decay_steps``: the cosine begins as many steps before the last one, until then the rate is ``learning_rate``; 0:
    from the start. So a run need not know from its first step on how long it will be.
    """

    steps: int
    learning_rate: float
    decay_steps: int = 0

    def rate_at(self, step: int) -> float:
        """Learning rate of a step (counted from 0)."""
        decay = min(self.decay_steps or self.steps, self.steps)
        progress = max(0.0, step - (self.steps - decay)) / decay
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.learning_rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * cosine)


@dataclass(frozen=True)
class Rival:
    """A method to compare with, of `RIVALS`, at a strength: S learns to segment what it sends, nothing is mixed."""

    name: str
    strength: float

    def __post_init__(self) -> None:
        if self.name not in RIVALS:
            raise InputError(f"proxy: expected one of {', '.join(RIVALS)}, got {self.name!r}")
        if not self.strength > 0:
            raise InputError(f"strength: expected more than 0, got {self.strength}")


@dataclass(frozen=True)
class ExtractorConfig:
    """What ``[extractor]`` in a training config says. ``crop``: the client's window, voxels of ``spacing_mm``."""

    spacing_mm: float
    filters: tuple[int, ...]
    crop: tuple[int, int, int]
    steps: int
    learning_rate: float
    seed: int
    decay_steps: int = 0
