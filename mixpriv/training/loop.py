"""The training loop that every network shares: schedule, weight averaging, log, checkpoints that a run resumes from."""

from __future__ import annotations

import copy
import ctypes
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mixpriv.errors import InputError
from mixpriv.training.optimiser import optimisers
from mixpriv.training.specs import Schedule

LOG_EVERY = 50
"""Steps to a line of the log."""
SAVE_EVERY_S = 180.0
"""What a run that is stopped loses at most."""


@dataclass(frozen=True)
class Initial:
    """Weights by name, and the number of training steps behind them."""

    weights: Mapping[str, Tensor]
    steps: int

    def part(self, name: str) -> Initial:
        """Weights of one part of the model."""
        prefix = f"{name}."
        return Initial({k.removeprefix(prefix): v for k, v in self.weights.items() if k.startswith(prefix)}, self.steps)

    def load_into(self, model: nn.Module) -> None:
        """Set all parameters of a model.

        Raises
        ------
        InputError
            a parameter is missing or has another shape.
        """
        for name, parameter in model.named_parameters():
            given = self.weights.get(name)
            if given is None or given.shape != parameter.shape:
                shape = None if given is None else tuple(given.shape)
                raise InputError(f"initial weights: expected {name} of shape {tuple(parameter.shape)}, got {shape}")
            with torch.no_grad():
                parameter.copy_(given)


def prefers_bfloat16() -> bool:
    """True where the CPU multiplies bfloat16 natively; elsewhere it is far slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast() -> torch.autocast:
    """bfloat16 autocast where the CPU is fast at it, else none."""
    return torch.autocast("cpu", torch.bfloat16, enabled=prefers_bfloat16())


def keep_memory() -> None:
    """Let the C library keep freed memory: fresh pages for each large tensor cost a fifth of a step on CPUs."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc
        if mallopt is not None:
            for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**29)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
                mallopt(parameter, value)


def fit(
    model: nn.Module,
    losses_at: Callable[[int], Mapping[str, Tensor]],
    schedule: Schedule,
    folder: Path,
    initial: Initial | None = None,
) -> Path:
    """Minimise the sum of ``losses_at(step)``, resuming from ``folder/last.pt`` if it is there.

    ``losses_at`` must depend on the step alone (and a seed), so that a resumed run goes on as it would have.
    ``initial``: weights to start from. Returns the path of the averaged weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keep_memory()
    if initial is not None and not (folder / "last.pt").exists():
        initial.load_into(model)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    averaged = copy.deepcopy(model).requires_grad_(False)
    both = optimisers(model, schedule.learning_rate)
    step, earlier = _resume(folder, model, averaged, both) or (0, 0 if initial is None else initial.steps)
    start, since, saved = step, time.monotonic(), time.monotonic()
    history: dict[str, list[float]] = defaultdict(list)
    while step < schedule.steps:
        for group in (group for optimiser in both for group in optimiser.param_groups):
            group["lr"] = schedule.rate_at(step)
        losses = losses_at(step)
        model.zero_grad(set_to_none=True)
        sum(losses.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        for optimiser in both:
            optimiser.step()
        step += 1
        _average(averaged, model, min(0.998, (step - start) / (step - start + 10)))
        for name, value in losses.items():
            history[name].append(value.item())
        now = time.monotonic()
        if step % LOG_EVERY == 0 or step == schedule.steps:
            _log(folder, step, earlier, history, (now - since) / LOG_EVERY)
            since = now
        if now - saved > SAVE_EVERY_S or step == schedule.steps:
            _save(folder, model, averaged, both, step, earlier)
            saved = time.monotonic()
    return folder / "averaged.pt"


def _resume(
    folder: Path, model: nn.Module, averaged: nn.Module, both: Sequence[torch.optim.Optimizer]
) -> tuple[int, int] | None:
    """Take up a run that was stopped; returns its steps and those before it, None if there is no such run."""
    path = folder / "last.pt"
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    averaged.load_state_dict(state["averaged"])
    for optimiser, own in zip(both, state["optimisers"], strict=True):
        optimiser.load_state_dict(own)
    return int(state["step"]), int(state["earlier"])


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1 - decay)


def steps_of(folder: Path) -> int:
    """Steps behind the weights of a run folder, those of the runs that it started from included."""
    return int(json.loads((folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])["total_steps"])


def _log(folder: Path, step: int, earlier: int, history: dict[str, list[float]], seconds_per_step: float) -> None:
    record: dict[str, float] = {name: round(float(np.mean(values)), 4) for name, values in history.items()}
    record |= {"step": step, "total_steps": earlier + step, "seconds_per_step": round(seconds_per_step, 3)}
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")
    history.clear()


def _save(
    folder: Path, model: nn.Module, averaged: nn.Module, both: Sequence[torch.optim.Optimizer], step: int, earlier: int
) -> None:
    state = {
        "model": model.state_dict(),
        "averaged": averaged.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in both],
        "step": step,
        "earlier": earlier,
    }
    for name, content in (("last.pt", state), ("averaged.pt", averaged.state_dict())):
        torch.save(content, folder / f".{name}")
        (folder / f".{name}").replace(folder / name)
