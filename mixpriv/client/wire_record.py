"""What crossed the wire, as files: exactly what was sent and received."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.atomic import make_folder, write_outputs
from mixpriv.bundle import Bundle
from mixpriv.client.segmentation import Exchange
from mixpriv.imaging.files import zipped_as_named
from mixpriv.imaging.volume import encode_image
from mixpriv.wire.contract import SegmenterContract, TensorSpec


def wire_files(folder: Path, references: int) -> list[tuple[Path, Path]]:
    """Where each request's mixture and answer go: the first has plain names, further ones a number.

    Examples
    --------
    >>> [mixture.name for mixture, answer in wire_files(Path("wire"), 2)]
    ['mixture.nii.gz', 'mixture_2.nii.gz']
    """
    numbers = ["", *(f"_{n}" for n in range(2, references + 1))]
    return [(folder / f"mixture{n}.nii.gz", folder / f"segmentation_mixture{n}.nii.gz") for n in numbers]


def save_wire(folder: Path, exchanges: Sequence[Exchange], bundle: Bundle, server: str, *, force: bool = False) -> None:
    """Write exactly what was sent and received: tensors as images, and what was said about them in ``request.json``.

    Only the user may read them, and enter the folder if it is made here: they are personal data, and more than that to
    those who have the key.

    Raises
    ------
    InputError
        a file exists, and ``force`` is not given.
    OutputError
        a file cannot be written.
    """
    contract = SegmenterContract.of(bundle)
    contents: dict[Path, bytes] = {}
    requests = []
    for exchange, (mixture, answer) in zip(exchanges, wire_files(folder, len(exchanges)), strict=True):
        # NIfTI knows no FP16: each value is the same number in FP32.
        sent = exchange.sent.astype(np.float32)
        channels_last = sent[0] if len(sent) == 1 else np.moveaxis(sent, 0, -1)
        for path, image in ((mixture, channels_last), (answer, np.moveaxis(exchange.received, 0, -1))):
            contents[path] = zipped_as_named(path, encode_image(image, bundle.spacing_mm))
        requests.append(
            {
                "sent": _describe(contract.mixture, exchange.sent[None], mixture),
                "received": _describe(contract.segmentation_mixture, exchange.received[None], answer),
            }
        )
    document = {
        "server": server,
        "model_name": contract.model_name,
        "model_version": str(contract.model_version),
        "requests": requests,
    }
    contents[folder / "request.json"] = json.dumps(document, indent=2).encode() + b"\n"
    make_folder(folder, 0o700)
    write_outputs(contents, force=force, mode=0o600)


def _describe(spec: TensorSpec, tensor: NDArray[Any], path: Path) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": spec.dtype,
        "shape": list(tensor.shape),
        "bytes": tensor.nbytes,
        "sha256": hashlib.sha256(tensor.tobytes()).hexdigest(),
        "file": path.name,
    }
