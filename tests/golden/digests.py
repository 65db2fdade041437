"""Digests of what is sent, answered and noted in every mode; nothing but a change of these on purpose may move them.

``python -m tests.golden.digests`` prints those of this machine, and with ``--write`` renews ``digests.json``. Do that
only for a change that is wanted, in a commit of its own that says why.

So that they hold on every machine, `pinned` fixes what floating-point sums depend on: instruction sets, threads and
the networks' precision. Beyond that each case has a key for which no value that is sent lies near a rounding boundary.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from tests.golden.phantoms import AFFINE, head

HERE = Path(__file__).parent
DIGESTS = HERE / "digests.json"
SERVER = "golden.example.org:8001"
BANK = (2, 3, 4)
"""The people whose scans are in the reference bank; the scan that is sent is of person 1."""


@dataclass(frozen=True)
class Case:
    """A way to segment the scan. ``key``: which of many; ``limit``: of the risk, less than the first mixture's."""

    mode: str
    key: int
    references: int = 1
    from_bank: bool = False
    limit: float | None = None


CASES: Mapping[str, Case] = {
    "none": Case("none", key=12),
    "local": Case("local", key=12),
    "mixup, 1 reference": Case("mixup", key=12),
    "mixup, 2 references": Case("mixup", key=12, references=2),
    "mixup, 1 reference of the bank": Case("mixup", key=12, from_bank=True),
    "mixup, 2 references of the bank": Case("mixup", key=12, references=2, from_bank=True),
    "shielded": Case("shielded", key=31),
    "shielded, drawn again": Case("shielded", key=161, limit=1.25),
}


@dataclass(frozen=True)
class Outcome:
    """What a case came to: every request's bytes, the labels, and the ledger's entries without their time."""

    requests: list[bytes]
    labels: NDArray[np.uint8]
    entries: list[tuple[Any, ...]]

    def digests(self) -> dict[str, Any]:
        """SHA-256 of each, in hex."""
        labels = repr((self.labels.shape, self.labels.dtype.str)).encode() + self.labels.tobytes(order="F")
        return {
            "sent": [hashlib.sha256(request).hexdigest() for request in self.requests],
            "labels": hashlib.sha256(labels).hexdigest(),
            "ledger": [hashlib.sha256(repr(entry).encode()).hexdigest() for entry in self.entries],
        }


def outcome(case: Case, folder: Path) -> Outcome:
    """Do a case by the public API, with the scan and the user's own files in a folder: all that touches the API."""
    from mixpriv import engine
    from mixpriv.bundle import load_bundle
    from mixpriv.client.bank import Bank
    from mixpriv.client.pipeline import open_pipeline
    from mixpriv.client.segment import segment
    from mixpriv.engine.in_process import InProcessSegmenter
    from mixpriv.imaging.volume import load_volume
    from mixpriv.key import ClientKey
    from mixpriv.protection.modes import named
    from mixpriv.wire.contract import SegmenterContract
    from mixpriv.wire.messages import encode_request

    bundle = load_bundle(HERE / "bundle")
    if case.limit is not None and bundle.shielded is not None and bundle.shielded.impostors is not None:
        impostors = replace(bundle.shielded.impostors, limit=case.limit)
        bundle = replace(bundle, shielded=replace(bundle.shielded, impostors=impostors))
    requests: list[bytes] = []

    class Recording:
        leaves_machine, address, deliveries = True, SERVER, ()
        network = InProcessSegmenter(bundle.segmenter_path, precision="f32")

        def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
            request = encode_request(SegmenterContract.of(bundle), mixture)
            requests.append(request.SerializeToString(deterministic=True))
            return self.network.segment(mixture)

    engine.load = functools.partial(engine.load, precision="f32")  # type: ignore[assignment]
    key = ClientKey(hashlib.sha256(f"golden {case.key}".encode()).digest())
    mode = named(case.mode, references=case.references, source="bank" if case.from_bank else "generator")
    pipeline = open_pipeline(bundle, mode, key, Recording())
    for person in BANK if case.from_bank else ():
        scan, labels = (load_volume(path) for path in write_head(folder, person))
        Bank.of(bundle).add(scan, labels, pipeline.preprocess, bundle, key)
    result = segment(load_volume(write_head(folder, 1)[0]), pipeline)
    entries = pipeline.ledger.entries()
    assert all(entry.domain == "" for entry in entries), "nothing is spread here"
    return Outcome(requests, result.labels, [astuple(entry)[1:-1] for entry in entries])


def write_head(folder: Path, person: int) -> tuple[Path, Path]:
    """Write a person's scan and labels as NIfTI."""
    paths = folder / f"scan{person}.nii", folder / f"labels{person}.nii"
    for path, voxels in zip(paths, head(person), strict=True):
        nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    return paths


@contextmanager
def own_folders() -> Iterator[Path]:
    """A folder for a case, with the user's folders in it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(XDG_CONFIG_HOME=f"{folder}/config", XDG_DATA_HOME=f"{folder}/data")
        yield Path(folder)


def all_digests() -> dict[str, Any]:
    """The digests of every case, made here and now."""
    found = {}
    for name, case in CASES.items():
        with own_folders() as folder:
            made = outcome(case, folder)
        if case.limit is not None:
            with own_folders() as folder:
                assert made.requests != outcome(replace(case, limit=None), folder).requests, "nothing was drawn again"
        found[name] = made.digests()
    return found


PINNED = {
    "MIXPRIV_ISA": "baseline",
    "MIXPRIV_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENBLAS_CORETYPE": "Prescott",
    "NPY_DISABLE_CPU_FEATURES": "FMA3 AVX2 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR "
    "X86_V3 X86_V4",
}


def pinned(environment: Mapping[str, str] = PINNED) -> dict[str, Any]:
    """The digests of every case, made by another process in a fixed environment."""
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.golden.digests"],
        cwd=HERE.parents[1],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(made.stdout)
    return found


if __name__ == "__main__":
    if "--write" in sys.argv:
        DIGESTS.write_text(json.dumps(pinned(), indent=2) + "\n", encoding="utf-8")
    else:
        print(json.dumps(all_digests(), indent=2))
