"""The record beside a TensorRT plan: what it was built from, with and for; checked before it is loaded.

A plan that does not fit its TensorRT or its GPU fails late and says little, and one of another network not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mixpriv.errors import InputError

PLAN = "segmenter.plan"


@dataclass(frozen=True)
class Gpu:
    """A CUDA device by its name and compute capability, such as ``9.0``."""

    name: str
    compute_capability: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability})"


@dataclass(frozen=True)
class PlanRecord:
    """What ``<plan>.json`` says.

    Attributes
    ----------
    fingerprint : of the segmenter, its ONNX file
    graph_sha256 : of the mixed-precision graph with its weights, as TensorRT's parser got it
    plan_sha256 : of the plan file
    tensorrt : the version that built it, ``major.minor.patch.build``
    gpu : on which it was built
    version_compatible : a later TensorRT may load it, too
    settings : what else it was built with
    parity : how its answer differs from OpenVINO's in float32
    """

    fingerprint: str
    graph_sha256: str
    plan_sha256: str
    tensorrt: str
    gpu: Gpu
    version_compatible: bool
    settings: Mapping[str, Any]
    parity: Mapping[str, Any]

    def write(self, plan: Path) -> None:
        """Write it beside the plan."""
        record_path(plan).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, plan: Path) -> PlanRecord:
        """Read what stands beside a plan.

        Raises
        ------
        InputError
            it is missing, or not such a record.
        """
        path = record_path(plan)
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(**fields | {"gpu": Gpu(**fields["gpu"])})
        except OSError:
            raise InputError(f"{plan}: its record {path.name} is missing beside it") from None
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{path}: not the record of a TensorRT plan") from None

    def check(self, plan: Path, *, fingerprint: str, tensorrt: str, gpu: Gpu) -> None:
        """Refuse a plan that is not of this network, or not for this TensorRT and this GPU.

        Raises
        ------
        InputError
            naming both sides.
        """
        check_network(self, plan, fingerprint)
        if not self._runs_on(tensorrt):
            raise InputError(f"{plan}: built with TensorRT {self.tensorrt}, here is TensorRT {tensorrt}: build it anew")
        if gpu != self.gpu:
            raise InputError(f"{plan}: built on {self.gpu}, here is {gpu}: build it anew")

    def _runs_on(self, tensorrt: str) -> bool:
        if not self.version_compatible:
            return tensorrt == self.tensorrt
        return _numbers(tensorrt) >= _numbers(self.tensorrt)  # forward only


def check_network(record: PlanRecord, plan: Path, fingerprint: str) -> None:
    """Refuse a plan of another network, or one whose file is not the one that was built.

    Raises
    ------
    InputError
        naming both sides.
    """
    if record.fingerprint != fingerprint:
        raise InputError(
            f"{plan}: built from the network {record.fingerprint[:12]}, expected {fingerprint[:12]}: build it anew"
        )
    digest = hashlib.sha256(plan.read_bytes()).hexdigest() if plan.is_file() else "missing"
    if digest != record.plan_sha256:
        raise InputError(f"{plan}: expected the file {record.plan_sha256[:12]} of its record, got {digest[:12]}")


def record_path(plan: Path) -> Path:
    """Where the record of a plan stands."""
    return plan.with_name(f"{plan.name}.json")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
