from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def robust_range(
    image: NDArray[np.float32],
    mask: NDArray[np.uint8] | None,
    lower_percent: float,
    upper_percent: float,
    threads: int,
) -> tuple[float, float]: ...
def mix(
    target: NDArray[np.float32],
    target_mask: NDArray[np.uint8],
    target_range: tuple[float, float],
    reference: NDArray[np.float32] | None,
    reference_mask: NDArray[np.uint8] | None,
    weight: float,
    warp: tuple[NDArray[np.float32], float] | None,
    threads: int,
) -> NDArray[np.float16]: ...
def unpack(
    answer: NDArray[np.uint8],
    reference_labels: NDArray[np.uint8],
    weight: float,
    out: NDArray[np.float32] | None,
    threads: int,
) -> NDArray[np.float32]: ...
def unmix(
    correction: NDArray[np.float32],
    linear: NDArray[np.float32] | None,
    trust: float,
    total: NDArray[np.float32] | None,
    threads: int,
) -> NDArray[np.float32]: ...
def accumulate(total: NDArray[np.float32], probabilities: NDArray[np.float32], threads: int) -> None: ...
def argmax(probabilities: NDArray[np.float32], threads: int) -> NDArray[np.uint8]: ...
def resample(
    image: NDArray[np.float32], matrix: NDArray[np.float64], shape: Sequence[int], threads: int
) -> NDArray[np.float32]: ...
def block_mean(image: NDArray[np.float32], factors: Sequence[int], threads: int) -> NDArray[np.float32]: ...
def restore_labels(
    probabilities: NDArray[np.float32],
    matrix: NDArray[np.float64],
    shape: Sequence[int],
    mask: NDArray[np.uint8] | None,
    threads: int,
) -> NDArray[np.uint8]: ...
def warp(
    channels: NDArray[np.float32], control: NDArray[np.float32], knots: float, fill_background: bool, threads: int
) -> NDArray[np.float32]: ...
def warp_answer(
    answer: NDArray[np.uint8], control: NDArray[np.float32], knots: float, threads: int
) -> NDArray[np.uint8]: ...
def invert_warp(
    control: NDArray[np.float32], knots: float, shape: Sequence[int], threads: int
) -> tuple[NDArray[np.float32], float]: ...
def warp_labels(
    labels: NDArray[np.uint8], control: NDArray[np.float32], knots: float, threads: int
) -> NDArray[np.uint8]: ...
def isa() -> str: ...
def available_isas() -> list[str]: ...
