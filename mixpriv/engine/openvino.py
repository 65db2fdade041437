"""OpenVINO on the CPU."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.errors import InputError
from mixpriv.threads import available_threads

# Else importing OpenVINO reports to Google Analytics, from a forked process and a thread that can hold up our end.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None: not to be found

import openvino as ov  # noqa: E402

if TYPE_CHECKING:
    from mixpriv.engine import Precision


class OpenVinoEngine:
    """A network compiled for this CPU. See `mixpriv.engine.load`; one call at a time."""

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None, precision: Precision) -> None:
        if not Path(path).is_file():
            raise InputError(f"network {os.fspath(path)}: no such file")
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or available_threads(),
            # Server and client share the cores: pinned threads of both would queue on the same ones.
            "ENABLE_CPU_PINNING": False,
        }
        # No hint by default: bf16 forced on hardware without it is several times slower than f32.
        if precision == "f32":
            options["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            core = _core()
            model = core.read_model(os.fspath(path))
            # Compiling can rename an output after a layer that it moved before it; the order stays.
            self._outputs = [port.any_name for port in model.outputs]
            self._network = core.compile_model(model, "CPU", options)
        except RuntimeError:
            # OpenVINO's own message spans many lines and names its source files.
            raise InputError(f"network {os.fspath(path)}: not a readable ONNX network") from None
        self._inputs = {port.any_name: port for port in self._network.inputs}

    def __call__(self, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the network once; see `mixpriv.engine.Engine`."""
        if inputs.keys() != self._inputs.keys():
            raise InputError(f"network inputs: expected {sorted(self._inputs)}, got {sorted(inputs)}")
        for name, array in inputs.items():
            _check(name, array, self._inputs[name])
        answer = self._network(inputs, share_inputs=True)
        return {name: answer[index] for index, name in enumerate(self._outputs)}


@functools.cache
def _core() -> ov.Core:
    """Never given back: its CPU plugin lends the thread a stack for signals, and a signal after its end is a crash."""
    return ov.Core()


def _check(name: str, array: NDArray[Any], port: Any) -> None:
    """Refuse what OpenVINO would cast or copy without a word."""
    dtype: np.dtype[Any] = port.element_type.to_dtype()
    if array.dtype != dtype:
        raise InputError(f"{name}: expected {dtype}, got {array.dtype}")
    expected = port.partial_shape
    if not expected.compatible(ov.PartialShape(list(array.shape))):
        raise InputError(f"{name}: expected shape {expected}, got {array.shape}")
    if not array.flags.c_contiguous:
        raise InputError(f"{name}: expected a C-contiguous array")
