"""The segmenter in each runtime that a server may use, all behind one call, so that their answers can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mixpriv.threads import available_threads

Segment = Callable[[NDArray[np.float16]], NDArray[np.uint8]]
"""Mixture (N, M, D, H, W) to answer (N, C-1, D, H, W)."""


def in_onnxruntime(model: onnx.ModelProto) -> Callable[..., NDArray[Any]]:
    """A graph in ONNX Runtime on the CPU, from its inputs in order to its output.

    FP16 convolutions are computed in float32 there and rounded after.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]

    def run(*inputs: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])

    return run
