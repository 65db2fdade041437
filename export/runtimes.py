"""The segmenter in each runtime that a server may use, all behind one call, so that their answers can be compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray

from mixpriv.threads import available_threads

Segment = Callable[[NDArray[np.float16]], NDArray[np.uint8]]
"""Mixture (N, M, D, H, W) to answer (N, C-1, D, H, W)."""


def in_onnxruntime(model: onnx.ModelProto) -> Segment:
    """A graph in ONNX Runtime on the CPU; FP16 convolutions are computed in float32 there and rounded after."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def segment(mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        return np.asarray(session.run(None, {name: mixture})[0])

    return segment
