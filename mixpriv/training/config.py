"""Training configs: a TOML file names the bundle, its grid, and each network's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomllib

from mixpriv.bundle import Alignment, Shielded
from mixpriv.errors import InputError
from mixpriv.training.data.crops import Region
from mixpriv.training.data.scans import Folds
from mixpriv.training.data.synth import Augmentation
from mixpriv.training.data.tumours import Tumours
from mixpriv.training.extraction import ExtractorConfig
from mixpriv.training.joint import JointConfig, control_config

SHIPPED = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class TrainingConfig:
    """A parsed config; crops and stripped scans need no extractor.

    ``counted``: labels whose mean is reported. ``variants``: trainings to compare with, by name.
    ``raw``: the whole file, for the bundle's record.
    """

    name: str
    segmenter: JointConfig
    extractor: ExtractorConfig | None
    control: JointConfig
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
        if joint.shielded_share == 0:
            bundle.pop("shielded", None)
        raw = {**self.raw, "bundle": bundle, "variant": name}
        return replace(self, segmenter=joint, raw=raw)

    @property
    def shielded(self) -> Shielded | None:
        """Mode shielded as the bundle will have it, strangers aside."""
        said = self.raw["bundle"].get("shielded")
        return None if said is None else Shielded(tuple(said["weight_range"]), float(said["warp_mm"]))

    def control_of(self, name: str) -> JointConfig:
        """The control's training for a D as a variant has it; raises as `variant`."""
        return control_config(self.variant(name), self.control.steps, self.control.learning_rate)


_ELSEWHERE = ("classes", "grid_shape", "spacing_mm", "alignment", "region", "folds", "modalities", "tumours", "proxy",
              "strength", "alone")  # fmt: skip
"""Fields of `JointConfig` that other tables of the file give."""


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
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        joint = _joint(raw, fold)
        extractor = None
        if joint.region is None and joint.tumours is None:
            extractor = ExtractorConfig(**_tuples(raw["extractor"]))
        control = raw["control"]
        alone = control_config(joint, int(control["steps"]), float(control["learning_rate"]))
        counted = tuple(int(label) for label in raw["evaluation"]["counted"])
        variants = {name: replace(joint, **_tuples(other)) for name, other in raw.get("variants", {}).items()}
        return TrainingConfig(str(raw["name"]), joint, extractor, alone, counted, variants, raw)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    except KeyError as error:
        raise InputError(f"{path}: missing {error}") from None
    except TypeError:
        joint_fields = sorted({f.name for f in fields(JointConfig)} - set(_ELSEWHERE))
        raise InputError(
            f"{path}: expected exactly {', '.join(joint_fields)} in [segmenter], some of them in [variants.NAME], and "
            f"{', '.join(f.name for f in fields(ExtractorConfig))} in [extractor]"
        ) from None


def _joint(raw: Mapping[str, Any], fold: int) -> JointConfig:
    grid, segmenter = raw["grid"], _tuples(raw["segmenter"])
    region = Region(**_tuples(raw["region"])) if "region" in raw else None
    alignment = None if region else Alignment(tuple(grid["std_mm"]), tuple(grid["centre_voxel"]))
    return JointConfig(
        classes=tuple(raw["bundle"]["classes"]),
        grid_shape=tuple(grid["shape"]),
        spacing_mm=float(grid["spacing_mm"]),
        alignment=alignment,
        region=region,
        modalities=tuple(raw["bundle"].get("modalities", ("T1w",))),
        tumours=Tumours(**_tuples(raw["tumours"])) if "tumours" in raw else None,
        folds=Folds(**_tuples(raw["folds"]), held_out=fold) if "folds" in raw else None,
        augmentation=Augmentation(**segmenter.pop("augmentation", {})),
        **segmenter,
    )


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table of the file with tuples in place of lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
