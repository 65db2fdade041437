"""MGH, pair, Analyze and DICOM files as accidents and attackers make them: a good file, some of its bytes changed."""

from __future__ import annotations

import gzip
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mixpriv.errors import InputError
from mixpriv.imaging.volume import load_volume
from tests.support.dicomfile import images
from tests.support.niftifile import TURNED, ramp

Files = dict[str, bytes]
_SHAPE = (12, 14, 16)


def example(random: np.random.Generator) -> Files:
    """The files of one image; the first name is the one that is read."""
    files = (_mgh, _nifti_pair, _analyze, _dicom)[int(random.integers(4))]()
    for name in random.choice(list(files), min(len(files), int(random.integers(1, 3))), replace=False):
        files[str(name)] = _damaged(random, files[str(name)])
    return files


def _mgh() -> Files:
    return {"a.mgz": gzip.compress(nib.MGHImage(ramp(_SHAPE, ">i2"), TURNED).to_bytes(), 1)}


def _nifti_pair() -> Files:
    return _pair(nib.Nifti1Pair)


def _analyze() -> Files:
    return _pair(nib.AnalyzeImage)


def _pair(kind: Any) -> Files:
    image = kind(ramp(_SHAPE), TURNED if kind is nib.Nifti1Pair else np.diag([-1.6, 1.6, 1.6, 1.0]))
    parts = {name: io.BytesIO() for name in ("header", "image")}
    image.to_file_map({name: nib.FileHolder(fileobj=file) for name, file in parts.items()})
    return {"a.hdr": parts["header"].getvalue(), "a.img": parts["image"].getvalue()}


def _dicom() -> Files:
    made = images(ramp(_SHAPE), np.diag([-1.6, -1.6, 1.6, 1.0]))
    files = {}
    for n, image in enumerate(made):
        buffer = io.BytesIO()
        image.save_as(buffer, enforce_file_format=True)
        files[f"s/{n}.dcm"] = buffer.getvalue()
    return files


def _damaged(random: np.random.Generator, content: bytes) -> bytes:
    unzipped = content[:2] == b"\x1f\x8b" and random.random() < 0.8
    changed = bytearray(gzip.decompress(content) if unzipped else content)
    reach = min(len(changed), int(random.choice((110, 360, 1400, len(changed)))))
    for _ in range(int(random.integers(1, 8))):
        changed[int(random.integers(reach))] = int(random.choice((0, 1, 127, 128, 255, random.integers(256))))
    if random.random() < 0.15:
        del changed[int(random.integers(len(changed))) :]
    return gzip.compress(bytes(changed), 1) if unzipped else bytes(changed)


@contextmanager
def target() -> Iterator[Callable[[Files], None]]:
    """What reads an image: it is read well, or refused in one line."""

    def feed(files: Files) -> None:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("error")
            for name, content in files.items():
                (Path(folder) / name).parent.mkdir(exist_ok=True)
                (Path(folder) / name).write_bytes(content)
            first = next(iter(files))
            try:
                scan = load_volume(Path(folder) / ("s" if first.startswith("s/") else first))
            except InputError as error:
                assert str(error).startswith(folder), error  # noqa: PT017
                assert str(error).isprintable(), error  # noqa: PT017
                return
            assert np.isfinite(scan.voxels).all()

    yield feed
