"""PyTorch on an NVIDIA GPU: FP16 convolutions with the channels last, one CUDA graph for each size.

Not run on a GPU yet; with ``device="cpu"`` the same graph is compared with the other engines.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixpriv.engine.arrays import ANY, Port, check_inputs
from mixpriv.engine.onnx_check import read_network
from mixpriv.engine.precision import mixed_precision
from mixpriv.engine.torch_graph import TorchGraph
from mixpriv.errors import EngineError, InputError

_MOST_GRAPHS = 8
"""Each keeps all activations of its size on the GPU."""


class TorchEngine:
    """An ONNX network run by PyTorch. See `mixpriv.engine.load`; one call at a time.

    Parameters
    ----------
    path : the ONNX file, graph and weights in one
    device : such as "cuda:0"; "cpu" for tests
    mixed : convolutions in FP16

    Raises
    ------
    InputError
        the file is missing, no network, or has an operator that none of our networks has.
    EngineError
        the GPU fails.
    """

    def __init__(self, path: str | os.PathLike[str], *, device: str = "cuda:0", mixed: bool = True) -> None:
        data, _ = read_network(path)
        try:
            model = onnx.load_model_from_string(data)
        except Exception:  # protobuf's errors are not public
            raise InputError(f"network {os.fspath(path)}: not a readable ONNX network") from None
        self._device = torch.device(device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise EngineError("PyTorch finds no GPU, or is built for none")
        self._inputs = {value.name: _port(value) for value in model.graph.input}
        try:
            self._graph = TorchGraph(mixed_precision(model) if mixed else model, self._device)
        except RuntimeError as error:
            raise _failure(error) from None
        self._captured: OrderedDict[tuple[Any, ...], _Captured] = OrderedDict()

    def __call__(self, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the network once; see `mixpriv.engine.Engine`."""
        check_inputs(inputs, self._inputs)
        # Triton's arrays are read-only, which a tensor cannot be.
        tensors = {n: torch.from_numpy(a if a.flags.writeable else a.copy()) for n, a in inputs.items()}
        try:
            answer = self._replay(tensors) if self._device.type == "cuda" else self._graph(tensors)
            return {name: value.contiguous().cpu().numpy() for name, value in answer.items()}
        except RuntimeError as error:
            raise _failure(error) from None

    def _replay(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        key = tuple((name, tuple(tensor.shape)) for name, tensor in sorted(tensors.items()))
        if key not in self._captured:
            if len(self._captured) == _MOST_GRAPHS:
                self._captured.popitem(last=False)
            self._captured[key] = _Captured(self._graph, tensors, self._device)
        self._captured.move_to_end(key)
        return self._captured[key].replay(tensors)


class _Captured:
    """All of one run at one size as a CUDA graph: one launch in place of a hundred."""

    def __init__(self, graph: TorchGraph, tensors: dict[str, Tensor], device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._inputs = {name: tensor.to(device) for name, tensor in tensors.items()}
            warming = torch.cuda.Stream()
            warming.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(warming):  # cuDNN chooses its kernels now
                for _ in range(2):
                    graph(self._inputs)
            torch.cuda.current_stream().wait_stream(warming)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._outputs = graph(self._inputs)

    def replay(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        for name, tensor in tensors.items():
            self._inputs[name].copy_(tensor)
        with torch.cuda.device(self._device):
            self._graph.replay()
        return self._outputs


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    return Port(
        tuple(d.dim_value if d.HasField("dim_value") else ANY for d in kind.shape.dim),
        np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)),
    )


def _failure(error: RuntimeError) -> EngineError:
    return EngineError(f"PyTorch: {str(error).splitlines()[0]}")
