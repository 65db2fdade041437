"""Which engine a server uses: TensorRT if a plan fits, else PyTorch on the GPU, else OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mixpriv.engine import Engine, load
from mixpriv.engine.plan import PLAN
from mixpriv.errors import InputError, MixprivError


def load_fastest(
    network: Path, *, fingerprint: str, gpu: int | None, note: Callable[[str], None]
) -> tuple[Engine, str]:
    """Load a segmenter with the fastest engine that works here.

    Parameters
    ----------
    network : ``segmenter.onnx``; a plan stands beside it
    fingerprint : of the network
    gpu : index of the GPU to use; None for the CPU
    note : told why a faster engine is not used

    Returns
    -------
    the engine, and its name: "tensorrt", "torch" or "openvino"

    Raises
    ------
    InputError
        the network is not readable.
    """
    if gpu is not None:
        for name, open_engine in (("tensorrt", _tensorrt), ("torch", _torch)):
            try:
                return open_engine(network, fingerprint, gpu), name
            except (ImportError, MixprivError) as error:
                note(f"{name} is not used: {error}")
    return load(network), "openvino"


def _tensorrt(network: Path, fingerprint: str, gpu: int) -> Engine:
    plan = network.with_name(PLAN)
    if not plan.is_file():
        raise InputError(f"no {PLAN} beside the network")
    from mixpriv.engine.tensorrt import TensorRtEngine

    return TensorRtEngine(plan, fingerprint=fingerprint, gpu=gpu)


def _torch(network: Path, fingerprint: str, gpu: int) -> Engine:
    from mixpriv.engine.torch_gpu import TorchEngine

    return TorchEngine(network, device=f"cuda:{gpu}")
