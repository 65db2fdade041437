"""A TensorRT plan on the GPU. Not run on TensorRT yet: checked against its bindings and on a fake."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.engine.arrays import Port, check_inputs
from mixpriv.engine.bindings import trt
from mixpriv.engine.cuda import Stream, current_gpu, use_gpu
from mixpriv.engine.plan import PlanRecord
from mixpriv.errors import EngineError, InputError


class TensorRtEngine:
    """A loaded plan. See `mixpriv.engine.load`; one call at a time, from the thread that loaded it.

    Parameters
    ----------
    plan : with its record beside it
    fingerprint : of the network that it must be of
    gpu : index of the GPU

    Raises
    ------
    InputError
        the plan's record is missing, or names another network, TensorRT or GPU.
    EngineError
        TensorRT refuses the plan, or the GPU fails.
    """

    def __init__(self, plan: str | os.PathLike[str], *, fingerprint: str, gpu: int = 0) -> None:
        path = Path(plan)
        use_gpu(gpu)
        record = PlanRecord.read(path)
        record.check(path, fingerprint=fingerprint, tensorrt=trt.__version__, gpu=current_gpu())
        self._logger = trt.Logger(trt.Logger.ERROR)  # as long as the engine: TensorRT keeps a pointer to it
        self._runtime = trt.Runtime(self._logger)
        # A version-compatible plan carries the runtime that it was built for.
        self._runtime.engine_host_code_allowed = record.version_compatible
        self._engine = _deserialize(self._runtime, path)
        self._context = self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE)
        if self._context is None:
            raise EngineError(f"{path}: no room on the GPU for its activations")
        self._stream = Stream()
        self._profile = -1
        self._inputs, self._outputs = _ports(self._engine)

    def __call__(self, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the plan once; see `mixpriv.engine.Engine`."""
        check_inputs(inputs, self._inputs)
        self._choose_profile({name: array.shape for name, array in inputs.items()})
        context: trt.IExecutionContext = self._context
        for name, array in inputs.items():
            address = self._stream.buffer(name, array.nbytes)
            if not context.set_input_shape(name, array.shape) or not context.set_tensor_address(name, address):
                raise EngineError(f"{name}: TensorRT refuses the shape {array.shape}")
            self._stream.upload(array, address)
        missing = context.infer_shapes()
        if missing:
            raise EngineError(f"TensorRT wants shapes for {', '.join(missing)}")
        results = {name: (tuple(context.get_tensor_shape(name)), port.dtype) for name, port in self._outputs.items()}
        addresses = {}
        for name, (shape, dtype) in results.items():
            addresses[name] = self._stream.buffer(name, int(np.prod(shape)) * dtype.itemsize)
            context.set_tensor_address(name, addresses[name])
        if not context.execute_async_v3(self._stream.handle):
            raise EngineError("TensorRT failed to run the plan")
        return {name: self._stream.download(addresses[name], *results[name]) for name in results}

    def _choose_profile(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Switch to the optimisation profile that the shapes fit, which costs something: only if need be."""
        context: trt.IExecutionContext = self._context
        profile = _fitting_profile(self._engine, shapes)
        if profile != self._profile:
            if not context.set_optimization_profile_async(profile, self._stream.handle):
                raise EngineError(f"TensorRT refuses its optimisation profile {profile}")
            self._profile = profile


def _deserialize(runtime: trt.Runtime, plan: Path) -> trt.ICudaEngine:
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise EngineError(f"{plan}: TensorRT {trt.__version__} cannot load it; its own message is above")
    return engine


def _ports(engine: trt.ICudaEngine) -> tuple[dict[str, Port], dict[str, Port]]:
    inputs, outputs = {}, {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        port = Port(tuple(engine.get_tensor_shape(name)), np.dtype(trt.nptype(engine.get_tensor_dtype(name))))
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            inputs[name] = port
        else:
            outputs[name] = port
    return inputs, outputs


def _fitting_profile(engine: trt.ICudaEngine, shapes: dict[str, tuple[int, ...]]) -> int:
    offered = []
    for profile in range(engine.num_optimization_profiles):
        limits = {name: engine.get_tensor_profile_shape(name, profile) for name in shapes}
        if all(
            all(low <= n <= high for low, n, high in zip(limits[name][0], shape, limits[name][2], strict=True))
            for name, shape in shapes.items()
        ):
            return profile
        offered += [f"{name} {tuple(low)} to {tuple(high)}" for name, (low, _, high) in limits.items()]
    got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise InputError(f"the plan was built for {'; '.join(offered)}, got {got}")
