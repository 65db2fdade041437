"""The hot loops of the client, in C++: exact definitions, the same result on every processor and thread count.

Every array must be C-contiguous and of the type that is named here; nothing is copied or cast silently, and anything
else is an ``InputError`` that names the argument. ``threads=0`` takes what `mixpriv.threads.available_threads` allows.
The environment variable ``MIXPRIV_ISA`` (``baseline``, ``avx2``, ``avx512``) forces one instruction set.

Where the first array lies on a CUDA device, all of them must, and the same kernel runs there: see `mixpriv.cuda`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixpriv import _native
from mixpriv.dispatch import on_its_device
from mixpriv.errors import InputError
from mixpriv.threads import available_threads

Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]
Shape = tuple[int, int, int]
ControlGrid = tuple[Float32, float]
"""Control points (3, gD, gH, gW) of a smooth displacement and the voxels between them, see `warp`."""


@on_its_device
def robust_range(
    image: Float32,
    mask: UInt8 | None = None,
    lower_percent: float = 0.5,
    upper_percent: float = 99.5,
    *,
    threads: int = 0,
) -> tuple[float, float]:
    """Exact percentiles of the voxels inside a mask, as ``numpy.percentile`` in float64.

    Parameters
    ----------
    image : any shape, finite inside the mask
    mask : same shape, non-zero inside; None takes every voxel

    Returns
    -------
    lo, hi

    Raises
    ------
    InputError
        an array is not as above, the mask is empty, NaN or Inf inside it, not 0 <= lower < upper <= 100.

    Examples
    --------
    >>> image = np.linspace(0, 100, 1001, dtype=np.float32)
    >>> tuple(round(end, 3) for end in robust_range(image, None, 1, 99))
    (1.0, 99.0)
    """
    return _native.robust_range(image, mask, lower_percent, upper_percent, _threads(threads))


@on_its_device
def mix(
    target: Float32,
    target_mask: UInt8,
    target_range: tuple[float, float],
    reference: Float32 | None,
    reference_mask: UInt8 | None,
    weight: float,
    *,
    warp: ControlGrid | None = None,
    threads: int = 0,
) -> NDArray[np.float16]:
    """Normalise the target, mix it with the reference and round to FP16, in one pass.

    ``t = clip((target - lo) * s, 0, 1)`` with ``s = 1 / (hi - lo)``, ``r = clip(reference, 0, 1)``, each 0 outside its
    mask (and where NaN); the result is ``weight * t + (1 - weight) * r``. Every operation is rounded to float32 in
    this order, the last one to the nearest float16, ties to even: the same bits on every processor.

    With a warp the mixture is taken at ``x + u(x)``, as the function `warp` does, before it is rounded to float16.

    Parameters
    ----------
    target, reference : (D, H, W); the reference is None only with weight 1
    target_mask, reference_mask : (D, H, W), non-zero inside
    target_range : (lo, hi) with lo < hi, see `robust_range`
    weight : the target's share, 0..1
    warp : (control, knots), of both, see the function `warp`; None for none

    Raises
    ------
    InputError
        an array, the range, the weight or a warp is not as above.

    Examples
    --------
    >>> target, mask = np.full((1, 1, 2), 5, np.float32), np.array([[[1, 0]]], np.uint8)
    >>> reference = np.ones((1, 1, 2), np.float32)
    >>> mix(target, mask, (0.0, 10.0), reference, np.ones_like(mask), 0.25).tolist()
    [[[0.875, 0.75]]]
    """
    return _native.mix(
        target,
        target_mask,
        target_range,
        reference,
        reference_mask,
        weight,
        warp,
        _threads(threads),
    )


@on_its_device
def unpack(
    answer: UInt8, reference_labels: UInt8, weight: float, *, out: Float32 | None = None, threads: int = 0
) -> Float32:
    """Turn the server's answer into the unmixer's input: unmixed linearly, with what is known of the reference.

    With ``p`` the answer over 255, the background's ``max(0, 255 - sum) / 255`` first, and ``y`` the one-hot reference
    labels, the unmixing is ``clip((p - rest * y) / weight, -1, 2)``. ``weight`` is rounded to float32 and
    ``rest = 1 - weight``, as in `mix`; every operation is rounded to float32 in this order: the same bits on every
    processor. At weight 1 it is ``p``.

    Parameters
    ----------
    answer : (C-1, D, H, W), probabilities x 255 without the background's
    reference_labels : (D, H, W), below C
    weight : the target's share, above 0, at most 1
    out : where the result goes, apart from the other arrays; None for new memory, which takes as long again to get.
        After an error its content is undefined.

    Returns
    -------
    (2C+1, D, H, W)
        The linear unmixing (C), the one-hot reference labels (C), the weight (1).

    Raises
    ------
    InputError
        an array or the weight is not as above.

    Examples
    --------
    >>> answer = np.full((1, 1, 1, 1), 204, np.uint8)  # .8 for the class beside the background
    >>> known = unpack(answer, np.ones((1, 1, 1), np.uint8), 0.5)  # where the reference is of that class, too
    >>> print(known.ravel().round(3))  # unmixed linearly: .4 and .6; the reference's class; the weight
    [0.4 0.6 0.  1.  0.5]
    """
    return _native.unpack(answer, reference_labels, weight, out, _threads(threads))


def unmix(
    correction: Float32, linear: Float32 | None, trust: float, *, total: Float32 | None = None, threads: int = 0
) -> Float32:
    """Turn the unmixer's answer into class probabilities: soft-max of ``correction + trust * linear``.

    Every operation is rounded to float32: the same bits on every processor. Only on the processor, as the network whose
    answer it takes.

    Parameters
    ----------
    correction : (8C, D/2, H/2, W/2), blocks of 2x2x2 voxels as channels: channel ``8c + 4i + 2j + k`` holds class c at
        the voxels ``(2x + i, 2y + j, 2z + k)``; at most 255 classes
    linear : (C, D, H, W), the linear unmixing, what `unpack` writes first; None: no answer, the correction is all
    trust : how much the linear unmixing counts
    total : (C, D, H, W), apart from the others, to which the probabilities are added; None for new memory. After an
        error its content is undefined.

    Returns
    -------
    (C, D, H, W)

    Raises
    ------
    InputError
        an array is not as above, or trust or what is to be soft-maxed is not finite.

    Examples
    --------
    >>> correction = np.zeros((16, 1, 1, 1), np.float32)  # two classes, one block of 2 x 2 x 2 voxels
    >>> unmix(correction, None, 0.0).shape, float(unmix(correction, None, 0.0).max())
    ((2, 2, 2, 2), 0.5)
    """
    return _native.unmix(correction, linear, trust, total, _threads(threads))


@on_its_device
def accumulate(total: Float32, probabilities: Float32, *, threads: int = 0) -> None:
    """Add ``probabilities`` to ``total`` in place; same shape, ``total`` writable.

    ``probabilities`` may be ``total`` itself, which doubles it.

    Raises
    ------
    InputError
        an array is not as above, or the two overlap in part.

    Examples
    --------
    >>> total = np.ones((2, 1, 1, 1), np.float32)
    >>> accumulate(total, np.full_like(total, 0.5))
    >>> total.ravel().tolist()
    [1.5, 1.5]
    """
    _native.accumulate(total, probabilities, _threads(threads))


@on_its_device
def argmax(probabilities: Float32, *, threads: int = 0) -> UInt8:
    """Index of the first largest class: (C, D, H, W) -> (D, H, W), at most 255 classes.

    Raises
    ------
    InputError
        the array is not as above.

    Examples
    --------
    >>> argmax(np.array([0.2, 0.5, 0.5], np.float32).reshape(3, 1, 1, 1)).tolist()
    [[[1]]]
    """
    return _native.argmax(probabilities, _threads(threads))


@on_its_device
def resample(
    image: Float32,
    matrix: NDArray[np.float64],
    shape: Shape,
    *,
    threads: int = 0,
) -> Float32:
    """Trilinear resampling through an affine.

    Up to half a voxel outside the image its edge continues, beyond that the result is 0.

    Parameters
    ----------
    image : (I, J, K); axes may be flipped: a view with negative steps of a contiguous array is read as it is
    matrix : (3, 4), from an output index to the index in ``image``
    shape : of the result

    Raises
    ------
    InputError
        an array or the shape is not as above, or the matrix is not finite.

    Examples
    --------
    >>> image = np.arange(4, dtype=np.float32).reshape(1, 1, 4)
    >>> halfway = np.hstack([np.eye(3), [[0], [0], [0.5]]])
    >>> resample(image, halfway, (1, 1, 3)).tolist()
    [[[0.5, 1.5, 2.5]]]
    """
    return _native.resample(image, matrix, shape, _threads(threads))


@on_its_device
def block_mean(image: Float32, factors: Shape, *, threads: int = 0) -> Float32:
    """Mean of every block of ``factors`` voxels; incomplete last blocks are left out.

    Along the last axis first, then the middle one, then the first: sums in order, each times ``1 / factor``, in
    float32.

    Parameters
    ----------
    image : (I, J, K); axes may be flipped
    factors : voxels of a block along each axis, from 1 to the image's size

    Raises
    ------
    InputError
        the array or a factor is not as above.

    Examples
    --------
    >>> block_mean(np.arange(8, dtype=np.float32).reshape(2, 2, 2), (2, 2, 2)).tolist()
    [[[3.5]]]
    """
    return _native.block_mean(image, factors, _threads(threads))


@on_its_device
def restore_labels(
    probabilities: Float32,
    matrix: NDArray[np.float64],
    shape: Shape,
    *,
    mask: UInt8 | None = None,
    threads: int = 0,
) -> UInt8:
    """Resample every class as `resample` does and take the first largest; 0 outside the grid.

    Parameters
    ----------
    probabilities : (C, D, H, W), at most 255 classes, not negative, of any scale
    matrix : (3, 4), from a scan index to the index in the grid
    shape : of the scan
    mask : (D, H, W); where it is 0, all that a voxel's classes sum to counts as class 0

    Raises
    ------
    InputError
        an array or the shape is not as above, or the matrix is not finite.

    Examples
    --------
    >>> probabilities = np.zeros((2, 1, 1, 2), np.float32)
    >>> probabilities[0, 0, 0, 0] = probabilities[1, 0, 0, 1] = 1
    >>> restore_labels(probabilities, np.eye(3, 4), (1, 1, 2)).tolist()
    [[[0, 1]]]
    """
    return _native.restore_labels(probabilities, matrix, shape, mask, _threads(threads))


@on_its_device
def warp(
    channels: Float32,
    control: Float32,
    knots: float,
    *,
    fill_background: bool = False,
    threads: int = 0,
) -> Float32:
    """Bend channels smoothly: each at ``x + u(x)``, trilinear, 0 where that lies outside the grid.

    ``u`` is the uniform cubic B-spline of the control points, evaluated on the fly. Point i along an axis lies at
    voxel ``(i - 1) * knots``, so that an axis of n voxels needs ``floor((n - 1) / knots) + 4`` points.

    Parameters
    ----------
    channels : (C, D, H, W)
    control : (3, gD, gH, gW), displacements in voxels along D, H, W, finite and below 2**20
    knots : voxels from one control point to the next, the same along every axis, above 0
    fill_background : add ``1 - sum of the channels`` to the first, so that probabilities stay some

    Raises
    ------
    InputError
        an array is not as above, or there are too few control points.

    Examples
    --------
    >>> channels = np.random.default_rng(0).random((1, 4, 4, 4), np.float32)
    >>> control = np.zeros((3, 5, 5, 5), np.float32)
    >>> bool((warp(channels, control, 2.0) == channels).all())  # no displacement
    True
    """
    return _native.warp(channels, control, knots, fill_background, _threads(threads))


def warp_answer(answer: UInt8, control: Float32, knots: float, *, threads: int = 0) -> UInt8:
    """Bend the channels of an answer (C, D, H, W) as `warp` does, rounded to the nearest level, ties upwards.

    Raises
    ------
    InputError
        an array is not as above, or there are too few control points.
    """
    return _native.warp_answer(answer, control, knots, _threads(threads))


def invert_warp(control: Float32, knots: float, shape: Shape, *, threads: int = 0) -> ControlGrid:
    """Find the warp that undoes another on a grid, by fixed-point iteration at its own, denser control points.

    The spline ``v`` through ``v(x) = -u(x + v(x))``: first 20 steps at points as far apart as those of ``u``, then 4 at
    a third of that, with ``u`` trilinear between the points. Beyond its points ``u`` goes on as at the edge. Where a
    warp folds there is no way back, and what is found means nothing.

    Parameters
    ----------
    control, knots : of u, see `warp`
    shape : (D, H, W) of the grid

    Returns
    -------
    control, knots : of v

    Raises
    ------
    InputError
        an array, a number or the shape is not as above, or there are too few control points.

    Examples
    --------
    >>> control = np.full((3, 5, 5, 5), 0.5, np.float32)
    >>> inverse, knots = invert_warp(control, 2.0, (4, 4, 4))
    >>> round(float(inverse.mean()), 3)
    -0.5
    """
    return _native.invert_warp(control, knots, shape, _threads(threads))


@on_its_device
def warp_labels(labels: UInt8, control: Float32, knots: float, *, threads: int = 0) -> UInt8:
    """Bend a label map (D, H, W) as `warp` does: the label of the voxel nearest to ``x + u(x)``, 0 if there is none.

    Raises
    ------
    InputError
        an array is not as above, or there are too few control points.

    Examples
    --------
    >>> labels, control = np.arange(64, dtype=np.uint8).reshape(4, 4, 4), np.zeros((3, 5, 5, 5), np.float32)
    >>> control[2] = 1  # everything is taken from one voxel further along the last axis
    >>> warp_labels(labels, control, 2.0)[0, 0].tolist()
    [1, 2, 3, 0]
    """
    return _native.warp_labels(labels, control, knots, _threads(threads))


def _threads(threads: int) -> int:
    if threads < 0:
        raise InputError(f"threads: expected a whole number from 0, got {threads}")
    return threads or available_threads()
