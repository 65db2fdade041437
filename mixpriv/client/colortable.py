"""Names and colours of labels, as FreeView, 3D Slicer and ITK-SNAP read them."""

from __future__ import annotations

from pathlib import Path

from mixpriv.bundle import Bundle
from mixpriv.labels import Label, Labelling


def color_tables(folder: Path, bundle: Bundle) -> dict[Path, bytes]:
    """Make a colour table for each viewer.

    Examples
    --------
    >>> from mixpriv.bundle import load_bundle
    >>> tables = color_tables(Path(), load_bundle("hippocampus"))
    >>> [path.name for path in tables]
    ['hippocampus_freeview.txt', 'hippocampus_slicer.ctbl', 'hippocampus_itksnap.txt']
    >>> tables[Path("hippocampus_itksnap.txt")].decode().splitlines()[1]
    '0 0 0 0 0 0 0 "background"'
    """
    labels = Labelling.of(bundle).labels
    tables = {"freeview.txt": _freeview, "slicer.ctbl": _slicer, "itksnap.txt": _itksnap}
    title = f"# {bundle.name} {bundle.version}"
    return {
        folder / f"{bundle.name}_{name}": "".join(f"{line}\n" for line in (title, *map(row, labels))).encode()
        for name, row in tables.items()
    }


def _rgb(label: Label) -> str:
    return " ".join(str(part) for part in bytes.fromhex(label.color[1:]))


def _freeview(label: Label) -> str:
    return f"{label.index} {label.name.replace(' ', '-')} {_rgb(label)} 0"


def _slicer(label: Label) -> str:
    return f"{label.index} {label.name.replace(' ', '_')} {_rgb(label)} {255 if label.index else 0}"


def _itksnap(label: Label) -> str:
    seen = 1 if label.index else 0
    return f'{label.index} {_rgb(label)} {seen} {seen} {seen} "{label.name}"'
