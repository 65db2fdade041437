"""Triton's Python backend around a bundle's segmenter; stands as ``<version>/model.py`` in a model repository."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from mixpriv.engine.choice import load_fastest


class TritonPythonModel:
    """Called by Triton: `initialize` once, `execute` for every batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network that stands beside this file and refuse another than the configuration names."""
        if np.lib.NumpyVersion(np.__version__) >= "2.0.0":  # Triton's tensors come out empty, without an error.
            raise pb_utils.TritonModelException(f"expected numpy<2, got {np.__version__}")
        config = json.loads(args["model_config"])
        network = Path(args["model_repository"], args["model_version"], "segmenter.onnx")
        if not network.is_file():
            raise pb_utils.TritonModelException(f"{network} is missing")
        fingerprint = config["parameters"]["fingerprint"]["string_value"]
        if hashlib.sha256(network.read_bytes()).hexdigest() != fingerprint:
            raise pb_utils.TritonModelException(f"{network} is not the network that config.pbtxt names")
        self._input, self._output = config["input"][0]["name"], config["output"][0]["name"]
        gpu = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        self._network, name = load_fastest(network, fingerprint=fingerprint, gpu=gpu, note=pb_utils.Logger.log_warn)
        pb_utils.Logger.log_info(f"{network}: {name} on the {'CPU' if name == 'openvino' else 'GPU'}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests of a batch, whose volumes Triton has chosen to be of one size, with one inference."""
        volumes = [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        batch = volumes[0] if len(volumes) == 1 else np.concatenate(volumes)
        answer = self._network(**{self._input: batch})[self._output]
        ends = np.cumsum([len(volume) for volume in volumes])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(self._output, np.ascontiguousarray(part))])
            for part in np.split(answer, ends)
        ]
