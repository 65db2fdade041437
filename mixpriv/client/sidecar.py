"""What is told of a label map beside it: how it was made, in a BIDS sidecar, and how its dataset begins."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from mixpriv import __version__
from mixpriv.atomic import make_folder, write_files
from mixpriv.bundle import Bundle
from mixpriv.client.naming import DESCRIPTION, dataset_of

OWN_FIELD = "Mixpriv"
"""Of the JSON file of a label map, where it says what of mixpriv made it."""

BIDS_VERSION = "1.10.0"

_SOURCE = "raw"
"""What the dataset of the scans is called in the description of ours."""

_README = """`*_dseg.nii.gz` has the labels of a scan in its own grid.
`*_dseg.tsv` has the name, colour and volume of each class.
`*_dseg.json` says how they were made.
"""

_COLUMNS = {
    "name": {"Description": "Name of the class"},
    "abbreviation": {"Description": "Short name of the class"},
    "color": {"Description": "Colour to show the class in, #rrggbb"},
    "voxels": {"Description": "Number of voxels of the class in the label map"},
    "volume_ml": {"Description": "Volume of the class", "Units": "mL"},
    "flags": {"Description": "Failed checks of the result that concern the class, separated by commas"},
}


def encode_sidecar(scan: Path, bundle: Bundle, mode: str, requests: int) -> bytes:
    """Make the JSON file of a label map; it names the scan only as a file of its BIDS dataset, by label."""
    root = dataset_of(scan)
    document: dict[str, Any] = {
        "Description": f"Classes of the bundle {bundle.name}, in the grid of the scan",
        "Manual": False,
        "SpatialReference": "orig",
        OWN_FIELD: {
            "Version": __version__,
            "Bundle": {"Name": bundle.name, "Version": bundle.version, "Fingerprint": bundle.fingerprint},
            "Mode": mode,
            "Requests": requests,
        },
        **_COLUMNS,
    }
    if root is not None:
        inside = Path(os.path.abspath(scan)).relative_to(root)
        document["Sources"] = [f"bids:{_SOURCE}:{inside.as_posix()}"]
    return json.dumps(document, indent=2).encode() + b"\n"


def begin_dataset(folder: Path, bundle: Bundle, scan: Path) -> None:
    """Make the folder of a BIDS dataset of derivatives, and its description if there is none; `OutputError`.

    The dataset that the ``scan`` is of is named by the way that leads to it from there.
    """
    root = dataset_of(scan)
    document = {
        "Name": f"mixpriv {bundle.name}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "mixpriv", "Version": __version__}],
        **({} if root is None else _links(folder, root)),
    }
    contents = {
        folder / DESCRIPTION: json.dumps(document, indent=2).encode() + b"\n",
        folder / "README.md": f"# Segmentations by mixpriv\n\n{_README}".encode(),
        folder / ".bidsignore": b"*.html\n*.png\n*_confidence.nii.gz\ngroup_*\nlogs/\nvolumes.tsv\nwire/\n",
    }
    make_folder(folder)
    for path, content in contents.items():
        with contextlib.suppress(FileExistsError):  # another client may have begun it
            write_files({path: content}, replace=False)


def _links(folder: Path, root: Path) -> dict[str, Any]:
    """Where the scans are, as BIDS says it: relative, so that no path of this machine is told."""
    way = Path(os.path.relpath(root, os.path.realpath(folder))).as_posix()
    return {"DatasetLinks": {_SOURCE: way}, "SourceDatasets": [{"URL": way}]}
