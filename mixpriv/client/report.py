"""What a user gets beside the label map: volumes per class, and on request all that crossed the wire."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv.atomic import make_folder, write_outputs
from mixpriv.bundle import Bundle
from mixpriv.client.segment import Client, View
from mixpriv.errors import MixprivError
from mixpriv.imaging.volume import encode_image, zipped_as_named
from mixpriv.wire.contract import SegmenterContract, TensorSpec
from mixpriv.wire.transport import Segmenter


@dataclass(frozen=True)
class ClassVolume:
    """How much of a scan a class takes."""

    index: int
    name: str
    voxels: int
    volume_ml: float


def class_volumes(labels: NDArray[np.uint8], voxel_ml: float, classes: Sequence[str]) -> list[ClassVolume]:
    """Count a label map (I, J, K); the background, class 0, is left out."""
    counts = [int(np.count_nonzero(labels == index)) for index in range(1, len(classes))]
    return [
        ClassVolume(index, classes[index], count, round(count * voxel_ml, 3))
        for index, count in enumerate(counts, start=1)
    ]


def encode_table(volumes: Sequence[ClassVolume]) -> bytes:
    """The volumes as tab-separated text with a header line."""
    rows = [f"{v.index}\t{v.name}\t{v.voxels}\t{v.volume_ml:.3f}\n" for v in volumes]
    return "".join(["index\tname\tvoxels\tvolume_ml\n", *rows]).encode()


def wire_files(folder: Path, references: int) -> list[tuple[Path, Path]]:
    """Where each request's mixture and answer go: the first has plain names, further ones a number."""
    numbers = ["", *(f"_{n}" for n in range(2, references + 1))]
    return [(folder / f"mixture{n}.nii.gz", folder / f"segmentation_mixture{n}.nii.gz") for n in numbers]


@contextmanager
def recorded(client: Client, folder: Path | None, *, force: bool, warn: Callable[[str], None]) -> Iterator[Client]:
    """Give a client whose requests are saved, see `save_wire`, when anything fails after them; none without folder."""
    if folder is None or client.segmenter is None:
        yield client
        return
    recorder = _Recorder(client.segmenter)
    try:
        yield replace(client, segmenter=recorder)
    except BaseException:
        if recorder.views:
            try:
                save_wire(folder, recorder.views, client.bundle, client.server, force=force)
            except MixprivError as error:  # what failed first is the news
                warn(str(error))
        raise


class _Recorder:
    """A segmenter that keeps what it was sent and what it answered."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self.leaves_machine, self.address = segmenter.leaves_machine, segmenter.address
        self.views: list[View] = []

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        """Ask the other segmenter, see there."""
        answer = self._segmenter.segment(mixture)
        self.views += map(View, mixture, answer)
        return answer


def save_wire(folder: Path, views: Sequence[View], bundle: Bundle, server: str, *, force: bool = False) -> None:
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
    for view, (mixture, answer) in zip(views, wire_files(folder, len(views)), strict=True):
        # NIfTI knows no FP16: each value is the same number in FP32.
        sent = view.mixture.astype(np.float32)
        channels_last = sent[0] if len(sent) == 1 else np.moveaxis(sent, 0, -1)
        for path, image in ((mixture, channels_last), (answer, np.moveaxis(view.answer, 0, -1))):
            contents[path] = zipped_as_named(path, encode_image(image, bundle.spacing_mm))
        requests.append(
            {
                "sent": _describe(contract.mixture, view.mixture[None], mixture),
                "received": _describe(contract.segmentation_mixture, view.answer[None], answer),
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
