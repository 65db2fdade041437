"""The files of a bundle beside its record: each is the one that the record names, and each side has its own.

An owner may hand out a bundle in two parts, see `mixpriv.export.split`: the client's without the segmenter, and the
server's with nothing else. The records of both parts name all files of the whole by their digests.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Literal

from mixpriv.bundle_fields import OPTIONAL, SIDES
from mixpriv.errors import InputError
from mixpriv.reading import read_file

if TYPE_CHECKING:
    from pathlib import Path

    from mixpriv.bundle import Bundle
    from mixpriv.engine.onnx_check import Network


def require_side(bundle: Bundle, side: Literal["client", "server", "both"]) -> None:
    """Refuse the part of a bundle that lacks what a side needs.

    Raises
    ------
    InputError
        it is the other side's part; for ``both`` any part.

    Examples
    --------
    >>> from mixpriv.bundle import load_bundle
    >>> require_side(load_bundle("brain-t1"), "server")
    """
    if bundle.part not in ("whole", side):
        wanted = "the whole bundle" if side == "both" else f"the {side}'s part or the whole bundle"
        raise InputError(f"bundle {bundle.name}: this is the {bundle.part}'s part, expected {wanted}")


def require_segmenter(bundle: Bundle) -> None:
    """Refuse a bundle without S where there is no server to ask.

    Raises
    ------
    InputError
        it is at its owner's server.
    """
    if not bundle.segmenter_path.is_file():
        wanted = "a server or mode local" if bundle.has_local else "a server"
        raise InputError(f"bundle {bundle.name}: its network is at its owner's server: expected {wanted}")


def check_files(bundle: Bundle) -> None:
    """Refuse a bundle with a file too many, too few, or another than its record names; earlier ones name none.

    Raises
    ------
    InputError
        naming the file.
    """
    if bundle.files is not None:
        for name, side in SIDES.items():
            path, digest = bundle.directory / name, bundle.files.get(name)
            expected = digest is not None and bundle.part in ("whole", side)
            if os.path.lexists(path) != expected:
                where = "the whole bundle" if bundle.part == "whole" else f"the {bundle.part}'s part"
                raise InputError(f"{path}: {'is missing' if expected else 'expected no such file'} in {where}")
            if expected and name != bundle.segmenter_path.name and _digest(path) != digest:
                raise InputError(f"{path}: expected the file that bundle.json names, got another")
    if os.path.lexists(bundle.segmenter_path):
        _check_segmenter(bundle)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a bundle, 64 hex digits, by name; InputError if one is missing that all need."""
    return {name: _digest(folder / name) for name in SIDES if name not in OPTIONAL or (folder / name).exists()}


def _digest(path: Path) -> str:
    from mixpriv.engine.onnx_check import MOST_BYTES  # loads NumPy, which --help does without

    return hashlib.sha256(read_file(path, MOST_BYTES)).hexdigest()


def _check_segmenter(bundle: Bundle) -> None:
    from mixpriv.engine.onnx_check import MOST_BYTES, check_network

    path = bundle.segmenter_path
    data = read_file(path, MOST_BYTES)
    if hashlib.sha256(data).hexdigest() != bundle.fingerprint:
        raise InputError(f"{path}: fingerprint differs from the one in bundle.json")
    _check_tensors(check_network(data, os.fspath(path)), bundle)


def _check_tensors(network: Network, bundle: Bundle) -> None:
    """Refuse a segmenter that takes or answers something else than clients and servers of this bundle speak of."""
    found = [(port.name, port.dtype, port.shape[:2]) for port in (*network.inputs, *network.outputs)]
    channels = len(bundle.modalities), len(bundle.classes) - 1
    wanted = [("mixture", "float16", (1, channels[0])), ("segmentation_mixture", "uint8", (1, channels[1]))]
    sizes = {port.shape[2:] for port in (*network.inputs, *network.outputs)}
    if found != wanted or len(sizes) > 1:
        got = ", ".join(str(port) for port in (*network.inputs, *network.outputs))
        raise InputError(
            f"{bundle.segmenter_path}: expected mixture float16 of {channels[0]} channels and segmentation_mixture "
            f"uint8 of {channels[1]}, of one size, got {got}"
        )
