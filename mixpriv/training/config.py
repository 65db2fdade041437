"""Training configs: a TOML file names the bundle, its grid, and each network's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tomllib

from mixpriv.bundle import Alignment
from mixpriv.errors import InputError
from mixpriv.training.extraction import ExtractorConfig
from mixpriv.training.joint import JointConfig, control_config
from mixpriv.training.synth import Augmentation

SHIPPED = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class TrainingConfig:
    """A parsed config. ``raw`` is the whole file, for the bundle's record."""

    name: str
    segmenter: JointConfig
    extractor: ExtractorConfig
    control: JointConfig
    raw: Mapping[str, Any]


def load_config(name_or_path: str) -> TrainingConfig:
    """Read a config by its shipped name (``brain-t1``) or its path.

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
        grid, segmenter = raw["grid"], dict(raw["segmenter"])
        alignment = Alignment(tuple(grid["std_mm"]), tuple(grid["centre_voxel"]))
        augmentation = Augmentation(**segmenter.pop("augmentation", {}))
        for key in ("crop", "filters", "weight_range"):
            segmenter[key] = tuple(segmenter[key])
        joint = JointConfig(
            grid_shape=tuple(grid["shape"]),
            spacing_mm=float(grid["spacing_mm"]),
            alignment=alignment,
            augmentation=augmentation,
            **segmenter,
        )
        extractor = raw["extractor"] | {key: tuple(raw["extractor"][key]) for key in ("filters", "crop")}
        control = raw["control"]
        alone = control_config(joint, tuple(control["filters"]), int(control["steps"]), float(control["learning_rate"]))
        return TrainingConfig(str(raw["name"]), joint, ExtractorConfig(**extractor), alone, raw)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    except KeyError as error:
        raise InputError(f"{path}: missing {error}") from None
    except TypeError:
        joint_fields = sorted({f.name for f in fields(JointConfig)} - {"grid_shape", "spacing_mm", "alignment"})
        raise InputError(
            f"{path}: expected exactly {', '.join(joint_fields)} in [segmenter] and "
            f"{', '.join(f.name for f in fields(ExtractorConfig))} in [extractor]"
        ) from None
