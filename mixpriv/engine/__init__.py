"""One small interface over the inference engines: ``load(network) -> callable``."""

from __future__ import annotations

import os
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

Precision = Literal["auto", "f32"]


class Engine(Protocol):
    """A loaded network: named arrays in, named arrays out."""

    def __call__(self, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the network once.

        Parameters
        ----------
        **inputs : one C-contiguous array per network input, of exactly the network's element type; never copied or cast

        Returns
        -------
        dict of output name to a new array, the caller's own unless the engine lends

        Raises
        ------
        InputError
            a name is missing or unknown, or an element type, a rank, a fixed size or the memory order is not the
            network's, or it cannot be run on inputs of such a size.
        """


def load(
    path: str | os.PathLike[str], *, threads: int | None = None, precision: Precision = "auto", lends: bool = False
) -> Engine:
    """Load an ONNX network for the CPU.

    Parameters
    ----------
    path : the ONNX file, graph and weights in one
    threads : at most this many at once; None for what this process may use (affinity, container quota)
    precision : "auto" takes bf16 where the hardware has it; "f32" computes in f32 everywhere (parity checks)
    lends : an answer is the engine's own memory, which the next call overwrites; saves a copy

    Raises
    ------
    InputError
        the file is missing, or not a network that is let through: see `mixpriv.engine.onnx_check`.
    """
    from mixpriv.engine.openvino import OpenVinoEngine  # a heavy import, only when a network is needed

    return OpenVinoEngine(path, threads=threads, precision=precision, lends=lends)
