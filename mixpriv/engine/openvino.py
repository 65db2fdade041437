"""OpenVINO on the CPU."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.engine.arrays import ANY, Port, check_inputs
from mixpriv.engine.onnx_check import Network, read_network
from mixpriv.errors import InputError
from mixpriv.threads import available_threads

# Else importing OpenVINO reports to Google Analytics, from a forked process and a thread that can hold up our end.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None: not to be found

import openvino as ov  # noqa: E402

if TYPE_CHECKING:
    from mixpriv.engine import Precision


class OpenVinoEngine:
    """A network compiled for this CPU. See `mixpriv.engine.load`; one call at a time."""

    def __init__(
        self, path: str | os.PathLike[str], *, threads: int | None, precision: Precision, lends: bool = False
    ) -> None:
        self._lends, self._name = lends, f"network {os.fspath(path)}"
        self._answers: dict[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]] = {}
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
            model, self._judged = _read(path)
            # Compiling can rename an output after a layer that it moved before it; the order stays.
            self._outputs = [port.any_name for port in model.outputs]
            self._network = _core().compile_model(model, "CPU", options)
        except RuntimeError:
            # OpenVINO's own message spans many lines and names its source files.
            raise InputError(f"{self._name}: not a readable ONNX network") from None
        self._inputs = {port.any_name: _port(port) for port in self._network.inputs}

    def __call__(self, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the network once; see `mixpriv.engine.Engine`."""
        check_inputs(inputs, self._inputs)
        shapes = {name: array.shape for name, array in inputs.items()}
        expected = self._expected(shapes)
        try:
            answer = self._network(inputs, share_inputs=True, share_outputs=self._lends)
        except RuntimeError:
            raise InputError(f"{self._name}: cannot be run on {shapes}, or there is too little memory") from None
        answers = {name: answer[index] for index, name in enumerate(self._outputs)}
        if expected is not None and tuple(array.shape for array in answers.values()) != expected:
            raise InputError(
                f"{self._name}: cannot be run on {shapes}: its answer has another shape than its graph says"
            )
        return answers

    def _expected(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, ...], ...] | None:
        """The shapes of its answers, judged once for each set of inputs; None for a network of our own export."""
        if self._judged is None:
            return None
        key = tuple(shapes[name] for name in self._inputs)
        if key not in self._answers:
            self._answers[key] = self._judged.answers(shapes)
        return self._answers[key]


def save_ir(network: Path, xml: Path) -> None:
    """Write an ONNX network as OpenVINO's own two files; the larger weights, stored as FP16, stay what they are."""
    model, _ = _read(network)
    ov.save_model(model, os.fspath(xml), compress_to_fp16=True)


def _read(path: str | os.PathLike[str]) -> tuple[Any, Network | None]:
    """A network as OpenVINO has it, and as it was judged; one in OpenVINO's own format is our own export."""
    if Path(path).suffix == ".xml":
        if not Path(path).is_file():
            raise InputError(f"network {os.fspath(path)}: no such file")
        return _core().read_model(os.fspath(path)), None
    data, judged = read_network(path)  # in memory: what was judged is what is run, and nothing beside it is read
    return _core().read_model(data, b""), judged


@functools.cache
def _core() -> ov.Core:
    """Never given back: its CPU plugin lends the thread a stack for signals, and a signal after its end is a crash."""
    return ov.Core()


def _port(port: Any) -> Port:
    sizes = (size.get_length() if size.is_static else ANY for size in port.partial_shape)
    return Port(tuple(sizes), np.dtype(port.element_type.to_dtype()))
