"""What crossed the wire, as files: exactly what was sent and received."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from mixpriv.atomic import make_folder, write_outputs
from mixpriv.bundle import Bundle
from mixpriv.client.segmentation import Exchange
from mixpriv.errors import InputError
from mixpriv.imaging.files import zipped_as_named
from mixpriv.imaging.volume import encode_image
from mixpriv.wire.contract import SegmenterContract, TensorSpec

DOCUMENT = "request.json"
FILE = re.compile(r"(segmentation_)?mixture(_\d+)?\.nii\.gz")


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
    contents[folder / DOCUMENT] = json.dumps(document, indent=2).encode() + b"\n"
    make_folder(folder, 0o700)
    write_outputs(contents, force=force, mode=0o600)


def read_wire(folder: Path) -> list[Exchange]:
    """What `save_wire` wrote, exactly as it was sent and received.

    Raises
    ------
    InputError
        the document or a file that it names is missing, damaged, or holds what no request and no answer holds.
    """
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        exchanges = []
        for request in document["requests"]:
            names = [request[part]["file"] for part in ("sent", "received")]
            if any(not FILE.fullmatch(name) for name in names):
                raise InputError(f"{folder / DOCUMENT}: expected files named mixture*.nii.gz beside it")
            mixture, answer = (np.asanyarray(nib.Nifti1Image.from_filename(folder / name).dataobj) for name in names)
            with np.errstate(over="ignore", invalid="ignore"):
                sent = mixture.astype(np.float16)
            if answer.dtype != np.uint8 or not np.array_equal(sent.astype(mixture.dtype), mixture):
                raise InputError(f"{folder}: expected values of FP16 sent and of UINT8 received, got others")
            sent = sent[None] if sent.ndim == 3 else np.moveaxis(sent, -1, 0)
            exchanges.append(Exchange(sent, np.moveaxis(answer, -1, 0)))
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError, zlib.error, ImageFileError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: not a folder of --save-wire ({type(error).__name__})") from None
    if not exchanges:
        raise InputError(f"{folder / DOCUMENT}: expected a request or more, got none")
    return exchanges


def _describe(spec: TensorSpec, tensor: NDArray[Any], path: Path) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": spec.dtype,
        "shape": list(tensor.shape),
        "bytes": tensor.nbytes,
        "sha256": hashlib.sha256(tensor.tobytes()).hexdigest(),
        "file": path.name,
    }
