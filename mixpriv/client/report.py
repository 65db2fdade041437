"""The report of a scan: one HTML file with a viewer, what left this machine, volumes and checks; it loads nothing.

The image in it is the brain with a rim, so that no face can be made of it, unless identifiers are wanted.
"""

from __future__ import annotations

import base64
import gzip
from importlib import resources
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv import __version__
from mixpriv.client.figure import RIM_MM, draw_sent, with_rim
from mixpriv.client.segmentation import Segmentation
from mixpriv.errors import InputError

_VIEWER = "niivue-0.69.0.umd.js.gz"
_MOST_VOXELS = 5_000_000
"""Of the images in a report; of a larger one every second or third voxel along each axis is shown."""
_PERCENTILES = (0.5, 99.8)  # of the voxels shown: the rest is drawn black or white


def encode_report(result: Segmentation, mode: str, sent_to: str | None, *, identifiers: bool = False) -> bytes:
    """Make the HTML file.

    Parameters
    ----------
    sent_to : where requests went; None if nothing left this machine
    identifiers : show the whole head, and the scan's name as a title

    Raises
    ------
    InputError
        Jinja2 is missing.
    """
    try:
        import jinja2
    except ImportError:
        raise InputError("the report needs the extra 'report': pip install 'mixpriv[report]'") from None
    whole = identifiers or bool(result.bundle.crop)
    image, labels = _images(result, whole=whole)
    folder = resources.files("mixpriv.client") / "templates"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string((folder / "report.html").read_text(encoding="utf-8"))
    text = page.render(
        title=Path(result.scan.name).name if identifiers else "Segmentation of a scan",
        version=__version__,
        bundle=result.bundle,
        mode=mode,
        server=result.server,
        sent_to=sent_to,
        requests=len(result.exchanges),
        sent_bytes=sum(exchange.sent.nbytes for exchange in result.exchanges),
        sent_png=_text(draw_sent(result)) if result.server is not None else "",
        volumes=result.volumes,
        intracranial_ml=result.intracranial_ml,
        checks=result.checks,
        warnings=[text for text in result.warnings if not any(check.words in text for check in result.checks)],
        shown="The whole image is shown." if whole else f"The image is cut {RIM_MM:.0f} mm around the labels.",
        viewer=_text((folder / _VIEWER).read_bytes()),
        image=_text(gzip.compress(image, 9, mtime=0)),
        labels=_text(gzip.compress(labels, 9, mtime=0)),
        colours=_colours(result),
    )
    return text.encode()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _colours(result: Segmentation) -> dict[str, list[Any]]:
    """A colour table of NiiVue: the background is clear."""
    labels = result.labelling.labels
    parts = np.array([[*bytes.fromhex(label.color[1:]), 255 if label.index else 0] for label in labels])
    table: dict[str, list[Any]] = {name: parts[:, n].tolist() for n, name in enumerate("RGBA")}
    return {**table, "I": [label.index for label in labels], "labels": [label.name for label in labels]}


def _images(result: Segmentation, *, whole: bool) -> tuple[bytes, bytes]:
    """Image and labels as NIfTI files of bytes, cut to what is shown, in a grid that is not too large."""
    voxels = result.scan.modalities[0].voxels
    shown = np.ones(result.scan.shape, bool) if whole else with_rim(result.labels > 0, result.scan.spacing_mm)
    # of a result without any label there is nothing to cut around: a black image
    box = next(iter(ndimage.find_objects(shown.astype(np.uint8))), tuple(map(slice, shown.shape)))
    box = tuple(slice(one.start or 0, one.stop) for one in box)
    step = 1
    while np.prod([-(-(part.stop - part.start) // step) for part in box]) > _MOST_VOXELS:
        step += 1
    part = tuple(slice(one.start, one.stop, step) for one in box)
    affine = result.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [one.start for one in box]
    affine[:3, :3] *= step
    inside = voxels[part][shown[part]]
    low, high = np.percentile(inside, _PERCENTILES) if inside.size else (0.0, 1.0)
    scaled = np.clip((voxels[part] - low) / max(high - low, 1e-6), 0, 1) * shown[part] * 255
    return _nifti(scaled.astype(np.uint8), affine), _nifti(result.labels[part], affine)


def _nifti(array: NDArray[np.uint8], affine: NDArray[np.float64]) -> bytes:
    return bytes(nib.Nifti1Image(array, affine).to_bytes())
