"""References of the user's own: labelled scans, conformed once and kept in a private folder of the data directory.

Each is spent on one scan only, which the ledger sees to. They are scans of real people: a mixture shows both.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixpriv.atomic import data_folder, private_folder, write_file
from mixpriv.bundle import Bundle
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.preprocessor import Preprocessor
from mixpriv.imaging.resample import conform_labels
from mixpriv.imaging.volume import Volume
from mixpriv.key import ClientKey, content_digest
from mixpriv.labels import Labelling
from mixpriv.protection.mixing import normalised
from mixpriv.protection.reference import Reference
from mixpriv.reid.scan_hash import SAME_SCAN, distance, scan_hash
from mixpriv.timing import Timings


@dataclass(frozen=True)
class Bank:
    """The references added for one bundle (its grid and classes), one file each, named by a keyed digest."""

    folder: Path

    @staticmethod
    def of(bundle: Bundle) -> Bank:
        """Name the user's bank for a bundle; its folder may not exist yet."""
        return Bank(data_folder() / "references" / f"{bundle.name}-{bundle.fingerprint[:12]}")

    def names(self) -> list[str]:
        """Names of all references, spent or not, in a fixed order that does not follow their adding."""
        return sorted(path.stem for path in self.folder.glob("*.npz"))

    def other_than(self, content: bytes, scan: NDArray[np.float16], bundle: Bundle, key: ClientKey) -> list[str]:
        """Names of references that are neither a scan nor like it: mixed with such a one it would lie bare.

        Parameters
        ----------
        content : digest of the scan
        scan : (M, D, H, W), normalised
        """
        names = [name for name in self.names() if name != reference_name(key, content)]
        if bundle.crop is not None:  # how similar two people's crops are was not measured
            return names
        own = scan_hash(scan[0], bundle.spacing_mm, key)
        hashes = {n: scan_hash(self.load(n).image.astype(np.float16), bundle.spacing_mm, key) for n in names}
        return [name for name in names if distance(hashes[name], own) >= SAME_SCAN]

    def load(self, name: str) -> Reference:
        """Read a reference; InputError if its file is missing or damaged."""
        path = self.folder / f"{name}.npz"
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                labels = arrays["labels"]
                return Reference(arrays["image"].reshape(-1, *labels.shape), labels, arrays["mask"])
        except Exception as error:  # NumPy raises zip, pickle, key and OS errors for damaged files
            raise InputError(f"{path}: not a reference ({type(error).__name__})") from None

    def add(self, scan: Volume, labels: Volume, preprocess: Preprocessor, bundle: Bundle, key: ClientKey) -> str:
        """Conform a labelled scan and keep it; returns its name.

        Raises
        ------
        InputError
            scan and labels do not fit together, hold labels unknown to the bundle, show no brain, or were added before.
        OutputError
            the folder cannot be written.
        """
        _check_pair(scan, labels, bundle)
        content = content_digest(scan.voxels, scan.affine)
        name = reference_name(key, content)
        target = preprocess(scan, Timings())
        arrays = {
            "image": normalised(target).astype(np.float32),
            "labels": conform_labels(labels, target.grid, Labelling.of(bundle)) * target.mask,
            "mask": target.mask,
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        private_folder(private_folder(self.folder.parent) / self.folder.name)
        try:
            write_file(self.folder / f"{name}.npz", buffer.getvalue(), mode=0o600, replace=False)
        except FileExistsError:
            raise InputError(f"{scan.name}: is in the reference bank already, as {name}") from None
        return name


def reference_name(key: ClientKey, content: bytes) -> str:
    """What a scan is called in the bank, by its content's digest."""
    return key.derive("reference", content).hex()[:16]


def _check_pair(scan: Volume, labels: Volume, bundle: Bundle) -> None:
    if scan.shape != labels.shape:
        raise InputError(f"{labels.name}: expected shape {scan.shape} as the scan, got {labels.shape}")
    if not np.allclose(scan.affine, labels.affine, atol=1e-2):
        raise InputError(f"{labels.name}: expected the same affine as the scan, got another")
    Labelling.of(bundle).require(labels.voxels, labels.name)
