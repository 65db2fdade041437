"""Unmixing: the class probabilities of the scan, from the server's answer to what was sent instead of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv import engine, kernels
from mixpriv.bundle import Bundle
from mixpriv.engine import Engine
from mixpriv.errors import InputError
from mixpriv.float16 import single
from mixpriv.imaging.device import CPU, Device
from mixpriv.protection.warp import Warp


@dataclass(frozen=True)
class Unmixer:
    """The client's small network D, which was trained together with the server's.

    It starts from the linear unmixing and corrects it by what it sees in it, in the reference's labels and, if
    ``sees_target``, in the scan itself. ``sharpness``: how much the linear unmixing counts at a weight of 1.
    ``watch``: is shown the sum of the probabilities after each answer. One call at a time: each writes its input over
    the one before.
    """

    network: Engine = field(repr=False)
    classes: int
    sharpness: float
    sees_target: bool = False
    watch: Callable[[NDArray[np.float32]], None] | None = field(default=None, repr=False, compare=False)
    _inputs: dict[tuple[str, tuple[int, ...]], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @staticmethod
    def of(bundle: Bundle, threads: int | None = None) -> Unmixer:
        """Load a bundle's; InputError if the file is missing, damaged or of another bundle."""
        network = engine.load(bundle.unmixer_path, threads=threads, lends=True)
        unmixer = Unmixer(network, len(bundle.classes), bundle.unmixer_sharpness, bundle.unmixer_sees_target)
        # found out now, and not by the answer to what was sent
        smallest = 3 * (bundle.multiple,)
        images = {"target": np.zeros((1, len(bundle.modalities), *smallest), np.float32)}
        known = np.zeros((2 * unmixer.classes + 1, *smallest), np.float32)
        unmixer._correct(known, **(images if unmixer.sees_target else {}))
        return unmixer

    def watched(self, watch: Callable[[NDArray[np.float32]], None]) -> Unmixer:
        """The same network and memory, with somebody who looks on."""
        known = replace(self, watch=watch)
        object.__setattr__(known, "_inputs", self._inputs)
        return known

    def __call__(
        self,
        answer: NDArray[np.uint8],
        reference_labels: NDArray[np.uint8],
        weight: float,
        target: NDArray[np.float16],
        device: Device = CPU,
        total: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Get the target's class probabilities from the answer to a mixture.

        Parameters
        ----------
        answer : (C-1, D, H, W) uint8, probabilities x 255 without the background
        reference_labels : (D, H, W) uint8
        weight : the target's share in the mixture
        target : (M, D, H, W) float16, the scan as mode ``none`` would send it
        device : where the answer is unpacked
        total : (C, D, H, W) float32, those of earlier answers, to which they are added; None for new memory

        Returns
        -------
        probabilities : (C, D, H, W) float32
        """
        there, labels_there = device.to_device(answer), device.to_device(reference_labels)
        place = device.name, answer.shape
        self._inputs[place] = kernels.unpack(there, labels_there, weight, out=self._inputs.get(place))
        known = device.to_host(self._inputs[place])
        images = {"target": single(target)[None]} if self.sees_target else {}
        correction = self._correct(known, **images)
        total = kernels.unmix(correction, known[: self.classes], self.sharpness * weight, total=total)
        if self.watch is not None:
            self.watch(total)
        return total

    def _correct(self, known: NDArray[np.float32], **images: NDArray[np.float32]) -> NDArray[np.float32]:
        answer = self.network(unmixer_input=known[None], **images)
        return _blocks(answer, "unmixer", "correction", self.classes, known.shape[1:])


@dataclass(frozen=True)
class LocalNetwork:
    """The client's network that segments the scan without a server: of its own, or an unmixer that can do without.

    ``unmixes``: it is an unmixer, and is told that there is no answer.
    """

    network: Engine = field(repr=False)
    classes: int
    unmixes: bool = False

    @staticmethod
    def of(bundle: Bundle, threads: int | None = None) -> LocalNetwork:
        """Load a bundle's; InputError if the file is missing, damaged or of another bundle."""
        path = bundle.unmixer_path if bundle.unmixer_alone else bundle.local_path
        network = engine.load(path, threads=threads, lends=True)
        local = LocalNetwork(network, len(bundle.classes), bundle.unmixer_alone)
        local(np.zeros((len(bundle.modalities), *3 * (bundle.multiple,)), np.float16))
        return local

    def __call__(self, target: NDArray[np.float16]) -> NDArray[np.float32]:
        """Get the class probabilities (C, D, H, W) float32 from the scan (M, D, H, W), as mode ``none`` sends it."""
        inputs, shape = {"target": single(target)[None]}, target.shape[1:]
        if self.unmixes:
            inputs["unmixer_input"] = np.zeros((1, 2 * self.classes + 1, *shape), np.float32)
        name = "correction" if self.unmixes else "logits"
        return kernels.unmix(_blocks(self.network(**inputs), "local network", name, self.classes, shape), None, 0.0)


def _blocks(
    answer: Mapping[str, NDArray[Any]], whose: str, name: str, classes: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Blocks of 2x2x2 voxels as channels (8C, D/2, H/2, W/2), out of a network's answer."""
    if name not in answer:
        raise InputError(f"{whose}: expected a network that answers {name}, got {', '.join(answer)}")
    found = np.ascontiguousarray(answer[name][0], np.float32)
    expected = (8 * classes, *(n // 2 for n in shape))
    if found.shape != expected:
        raise InputError(f"{whose}: expected {name} of {expected}, got {found.shape}")
    return found


def unwarp(answer: NDArray[np.uint8], warp: Warp) -> NDArray[np.uint8]:
    """Warp the answer (C-1, D, H, W) uint8 to a warped mixture back."""
    return kernels.warp_answer(answer, *warp.inverse)


def linear_unmix(answer: NDArray[np.uint8], reference_labels: NDArray[np.uint8], weight: float) -> NDArray[np.float32]:
    """Solve the mixing equation, the baseline that `unmix` must beat: ``(p_mix - (1-a)·y_r) / a``, clipped to 0..2.

    Examples
    --------
    >>> answer = np.full((1, 1, 1, 1), 102, np.uint8)  # .4
    >>> print(linear_unmix(answer, np.zeros((1, 1, 1), np.uint8), 0.5).ravel().round(3))
    [0.2 0.8]
    """
    known = kernels.unpack(answer, reference_labels, weight)
    return np.maximum(known[: len(answer) + 1], np.float32(0.0))


def unpack_probabilities(answer: NDArray[np.uint8], device: Device = CPU) -> NDArray[np.float32]:
    """Turn the answer to an unmixed scan (C-1, D, H, W) into class probabilities (C, D, H, W) f32, background first.

    Examples
    --------
    >>> print(unpack_probabilities(np.full((1, 1, 1, 1), 51, np.uint8)).ravel().round(3))
    [0.8 0.2]
    """
    any_labels = np.zeros(answer.shape[1:], dtype=np.uint8)  # at weight 1 the reference has no share
    known = kernels.unpack(device.to_device(answer), device.to_device(any_labels), 1.0)
    return device.to_host(known[: len(answer) + 1])
