"""Training configs: a TOML file names the bundle, its grid, and each network's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomllib

from mixpriv.bundle import Alignment, Shielded
from mixpriv.errors import InputError
from mixpriv.training.specs import (
    Augmentation,
    Data,
    ExtractorConfig,
    Folds,
    Losses,
    Mixing,
    Networks,
    Region,
    Rival,
    Schedule,
    Task,
    Tumours,
    Unlabelled,
)

SHIPPED = Path(__file__).parent / "configs"

_PARTS: Mapping[str, type] = {
    "task": Task,
    "data": Data,
    "networks": Networks,
    "mixing": Mixing,
    "losses": Losses,
    "schedule": Schedule,
}
_PART_OF = {each.name: name for name, part in _PARTS.items() for each in fields(part)}
_ELSEWHERE = {
    "classes",
    "grid_shape",
    "spacing_mm",
    "alignment",
    "region",
    "folds",
    "modalities",
    "tumours",
    "unlabelled",
}
"""Fields that other tables of the file give than ``[segmenter]``."""


@dataclass(frozen=True)
class JointConfig:
    """The training of S and D. In a file, ``[segmenter]`` has the fields of most parts without naming the part.

    ``frozen``: D alone is trained, beside a given S. ``alone``: D is trained without an answer, and there is no S.
    ``rival``: S alone is trained, for another method.
    """

    task: Task
    data: Data
    networks: Networks
    mixing: Mixing
    losses: Losses
    schedule: Schedule
    seed: int
    frozen: bool = False
    alone: bool = False
    rival: Rival | None = None

    def __post_init__(self) -> None:
        given, classes = len(self.losses.class_weights), len(self.task.classes)
        if given not in (0, classes):
            raise InputError(f"class_weights: expected {classes}, got {given}")

    @staticmethod
    def of(**said: Any) -> JointConfig:
        """Make a config of all its parts' fields; TypeError if one is missing or unknown."""
        parts = {name: part(**_of_part(name, said)) for name, part in _PARTS.items()}
        return JointConfig(**parts, **{key: value for key, value in said.items() if key not in _PART_OF})

    def changed(self, **said: Any) -> JointConfig:
        """The same config but for some fields of its parts or its own; TypeError if one is unknown."""
        parts = {name: replace(getattr(self, name), **_of_part(name, said)) for name in _PARTS}
        return replace(self, **parts, **{key: value for key, value in said.items() if key not in _PART_OF})

    @property
    def lone_unmixer(self) -> bool:
        """Whether D learns to do without an answer."""
        return self.networks.unmixer_sees == "target" and self.rival is None


def _of_part(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if _PART_OF.get(key) == name}


def control_config(config: JointConfig, steps: int, learning_rate: float) -> JointConfig:
    """Training of D alone on the scan itself: what a client could do without the server."""
    return config.changed(
        alone=True, frozen=False, unmixer_sees="target", steps=steps, plain_steps=steps,
        learning_rate=learning_rate, references=0,
    )  # fmt: skip


def with_steps(config: JointConfig, steps: int) -> JointConfig:
    """The same training, for another number of steps.

    Raises
    ------
    InputError
        fewer than one.
    """
    if steps < 1:
        raise InputError(f"steps: expected at least 1, got {steps}")
    return config.changed(steps=steps, plain_steps=config.mixing.plain_steps if config.data.references else steps)


def rival_config(config: JointConfig, rival: Rival) -> JointConfig:
    """Training of S for another method, with the same data, network, augmentation and steps.

    Raises
    ------
    InputError
        the config is of several modalities.
    """
    if len(config.task.modalities) > 1:
        raise InputError(f"proxy: expected a config of one modality, got {', '.join(config.task.modalities)}")
    return config.changed(rival=rival, plain_steps=config.schedule.steps, references=0)


def parse_rival(text: str) -> Rival:
    """Name and strength from ``NAME=STRENGTH``; InputError if it is not of that form or there is no such method."""
    name, _, strength = text.partition("=")
    try:
        number = float(strength)
    except ValueError:
        raise InputError(f"proxy: expected NAME=STRENGTH, got {text!r}") from None
    return Rival(name, number)


@dataclass(frozen=True)
class TrainingConfig:
    """A parsed config; crops and stripped scans need no extractor.

    ``control``: a network of D's size on the scan alone. ``local``: the one of mode local, the same if the file has no
    ``[local]``. ``counted``: labels whose mean is reported. ``variants``: trainings to compare with, by name. ``raw``:
    the whole file, for the bundle's record.
    """

    name: str
    segmenter: JointConfig
    extractor: ExtractorConfig | None
    control: JointConfig
    local: JointConfig
    counted: tuple[int, ...]
    variants: Mapping[str, JointConfig]
    raw: Mapping[str, Any]

    def variant(self, name: str) -> JointConfig:
        """The segmenter's training as a variant has it.

        Raises
        ------
        InputError
            no such variant.
        """
        if name not in self.variants:
            raise InputError(
                f"config {self.name}: variant: expected one of {', '.join(self.variants) or 'none'}, got {name!r}"
            )
        return self.variants[name]

    def as_variant(self, name: str) -> TrainingConfig:
        """The config with a variant's training as its own; without mode shielded if that trains nothing for it.

        Raises as `variant`.
        """
        joint, bundle = self.variant(name), dict(self.raw["bundle"])
        if joint.mixing.shielded_share == 0:
            bundle.pop("shielded", None)
        raw = {**self.raw, "bundle": bundle, "variant": name}
        return replace(self, segmenter=joint, raw=raw)

    @property
    def shielded(self) -> Shielded | None:
        """Mode shielded as the bundle will have it, impostors aside."""
        said = self.raw["bundle"].get("shielded")
        return None if said is None else Shielded(tuple(said["weight_range"]), float(said["warp_mm"]))

    def control_of(self, name: str) -> JointConfig:
        """The control's training for a D as a variant has it; raises as `variant`."""
        schedule = self.control.schedule
        return control_config(self.variant(name), schedule.steps, schedule.learning_rate)


def load_config(name_or_path: str, fold: int = 0) -> TrainingConfig:
    """Read a config by its shipped name (``brain-t1``) or its path; ``fold`` is held out where it has folds.

    Raises
    ------
    InputError
        no such file, not TOML, a field missing or unknown.
    """
    path = Path(name_or_path)
    if not path.is_file():
        path = SHIPPED / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.toml")))
        raise InputError(f"config {name_or_path!r} not found: expected a TOML file or one of {known}")
    try:
        return parse_config(tomllib.loads(path.read_text(encoding="utf-8")), fold)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    except KeyError as error:
        raise InputError(f"{path}: missing {error}") from None
    except TypeError:
        known = ", ".join(sorted({*_PART_OF, "seed", "frozen"} - _ELSEWHERE))
        raise InputError(
            f"{path}: expected exactly {known} in [segmenter], some of them in [variants.NAME], and "
            f"{', '.join(f.name for f in fields(ExtractorConfig))} in [extractor]"
        ) from None


def parse_config(raw: Mapping[str, Any], fold: int = 0) -> TrainingConfig:
    """A config of the contents of its file, or of what a bundle recorded of it; KeyError or TypeError if it is none."""
    joint, extractor = _joint(raw, fold), None
    if joint.data.region is None and joint.data.tumours is None:
        extractor = ExtractorConfig(**_tuples(raw["extractor"]))
    control, local = raw["control"], raw.get("local")
    alone = own = control_config(joint, int(control["steps"]), float(control["learning_rate"]))
    if local is not None:
        sized = joint.changed(unmixer_filters=tuple(local["filters"]))
        own = control_config(sized, int(local["steps"]), float(local["learning_rate"]))
    counted = tuple(int(label) for label in raw["evaluation"]["counted"])
    variants = {name: joint.changed(**_tuples(other)) for name, other in raw.get("variants", {}).items()}
    return TrainingConfig(str(raw["name"]), joint, extractor, alone, own, counted, variants, raw)


def _joint(raw: Mapping[str, Any], fold: int) -> JointConfig:
    grid, segmenter = raw["grid"], _tuples(raw["segmenter"])
    region = Region(**_tuples(raw["region"])) if raw.get("region") else None
    return JointConfig.of(
        classes=tuple(raw["bundle"]["classes"]),
        grid_shape=tuple(grid["shape"]),
        spacing_mm=float(grid["spacing_mm"]),
        alignment=None if region else Alignment(tuple(grid["std_mm"]), tuple(grid["centre_voxel"])),
        region=region,
        modalities=tuple(raw["bundle"].get("modalities", ("T1w",))),
        tumours=Tumours(**_tuples(raw["tumours"])) if raw.get("tumours") else None,
        unlabelled=Unlabelled(**_tuples(raw["unlabelled"])) if raw.get("unlabelled") else None,
        folds=Folds(**_tuples(raw["folds"]), held_out=fold) if raw.get("folds") else None,
        augmentation=Augmentation(**segmenter.pop("augmentation", {})),
        **segmenter,
    )


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table of the file with tuples in place of lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
