"""How often is left taken for right? ``python bench/sides.py --maps DIR --scans DIR -o FILE``.

Label maps whose sides are known lose them, in the grid of a bundle, and `mixpriv.imaging.midplane` finds them again.
Heads are also turned, bent, grown on one side and given a hole. What is counted are voxels of the map itself (every
8th) of structures with two sides that end on the wrong one, and processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixpriv.bundle import load_bundle
from mixpriv.imaging.alignment import grid_to_world
from mixpriv.imaging.midplane import midsurface
from mixpriv.provenance import commit, hardware

STRUCTURES = {
    "cerebral white matter": (2, 41), "cerebral cortex": (3, 42), "lateral ventricle": (4, 43),
    "cerebellar white matter": (7, 46), "cerebellar cortex": (8, 47), "thalamus": (10, 49), "caudate": (11, 50),
    "putamen": (12, 51), "pallidum": (13, 52), "hippocampus": (17, 53), "amygdala": (18, 54), "accumbens": (26, 58),
    "ventral DC": (28, 60),
}  # fmt: skip
PAIRS, NAMES = tuple(STRUCTURES.values()), tuple(STRUCTURES)
FURTHER = {5: 4, 44: 43}

Points = NDArray[np.float64]
Change = tuple[Callable[[Points], Points], Callable[[Points], Points]]
"""World millimetres (N, 3) around the brain's centre to those of the changed head, and back."""


def turned(*degrees: float) -> Change:
    """Turned about R, A and S."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        step, (p, q) = np.eye(3), [a for a in range(3) if a != axis]
        step[p, p] = step[q, q] = np.cos(angle)
        step[p, q], step[q, p] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ step
    return lambda at: at @ matrix.T, lambda at: at @ matrix


def bent(mm: float) -> Change:
    """The front goes to one side, the back to the other."""

    def shifted(at: Points, sign: float) -> Points:
        return np.column_stack([at[:, 0] + sign * mm * np.sin(at[:, 1] / 45), at[:, 1:]])

    return lambda at: shifted(at, 1), lambda at: shifted(at, -1)


def grown(factor: float) -> Change:
    """The right half is wider."""

    def scaled(at: Points, by: float) -> Points:
        return np.column_stack([np.where(at[:, 0] > 0, at[:, 0] * by, at[:, 0]), at[:, 1:]])

    return lambda at: scaled(at, factor), lambda at: scaled(at, 1 / factor)


def with_hole(at: Points) -> NDArray[np.bool_]:
    """A ball of 30 mm in the left temporal and frontal lobe."""
    return np.asarray(((at - (-38.0, 15.0, -5.0)) ** 2).sum(axis=1) < 30**2)


HEADS: dict[str, tuple[Change, bool]] = {
    "as they are": (turned(0, 0, 0), False),
    "roll 12 degrees": (turned(0, 12, 0), False),
    "yaw 15 degrees": (turned(0, 0, 15), False),
    "pitch 10, roll 15, yaw -12 degrees": (turned(10, 15, -12), False),
    "roll -25, yaw 20 degrees": (turned(0, -25, 20), False),
    "bent by 6 mm to either side": (bent(6), False),
    "right half 10 % wider": (grown(1.1), False),
    "30 mm of the left half gone": (turned(0, 0, 0), True),
}


def wrong(path: Path, change: Change, *, hole: bool) -> tuple[dict[int, tuple[int, int]], float]:
    """Of each class the voxels on the wrong side and all, and the milliseconds of the search."""
    there, back = change
    image = nib.Nifti1Image.from_filename(path)
    labels = np.asarray(image.dataobj).astype(np.int32)
    for number, into in FURTHER.items():
        labels[labels == number] = into
    classes = np.zeros(1024, np.uint8)
    for index, pair in enumerate(PAIRS, start=1):
        classes[list(pair)] = index
    brain = np.argwhere(((labels > 0) & (labels < 100))[::2, ::2, ::2]) * 2
    world = brain @ image.affine[:3, :3].T + image.affine[:3, 3]
    centre = world.mean(axis=0)
    bundle = load_bundle("brain-t1")
    if bundle.alignment is None:
        raise SystemExit("sides: expected a bundle for heads")
    moved = there(world - centre)
    grid = grid_to_world(moved.mean(axis=0), moved.std(axis=0), bundle.alignment, bundle.spacing_mm)
    index = np.stack(np.meshgrid(*map(np.arange, bundle.grid_shape), indexing="ij"), -1).reshape(-1, 3)
    origin = back(index @ grid[:3, :3].T + grid[:3, 3])
    voxel = np.linalg.solve(image.affine[:3, :3], (origin + centre - image.affine[:3, 3]).T)
    sided = ndimage.map_coordinates(classes[labels], voxel, order=0).reshape(bundle.grid_shape)
    if hole:
        sided[with_hole(origin).reshape(bundle.grid_shape)] = 0
    begin = time.process_time()
    surface = midsurface(sided, bundle.spacing_mm)
    milliseconds = 1000 * (time.process_time() - begin)
    at = np.linalg.solve(grid[:3, :3], (moved - grid[:3, 3]).T)
    right = at[0] > ndimage.map_coordinates(surface, at[1:], order=1, mode="nearest")
    own, of = labels[tuple(brain.T)], classes[labels[tuple(brain.T)]]
    there_is = ~with_hole(world - centre) if hole else np.ones(len(own), bool)
    found = {}
    for number, pair in enumerate(PAIRS, start=1):
        inside = (of == number) & there_is
        found[number] = int(((own == pair[1]) != right)[inside].sum()), int(inside.sum())
    return found, milliseconds


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=Path, required=True, help="folder of *_dseg.nii.gz in FreeSurfer's numbers")
    parser.add_argument("--scans", type=Path, required=True, help="BIDS folder with desc-structures_dseg")
    parser.add_argument("-o", "--output", type=Path, required=True, help="markdown file")
    args = parser.parse_args(argv)
    paths = [*sorted(args.maps.glob("*_dseg.nii.gz")), *sorted(args.scans.rglob("*_desc-structures_dseg.nii.gz"))]
    rows, taken, shares = [], [], {}
    for name, (change, hole) in HEADS.items():
        results = [wrong(path, change, hole=hole) for path in paths]
        taken += [milliseconds for _, milliseconds in results]
        each = [100 * sum(w for w, _ in r.values()) / sum(n for _, n in r.values()) for r, _ in results]
        deep = [100 * sum(r[c][0] for c in range(7, 13)) / sum(r[c][1] for c in range(7, 13)) for r, _ in results]
        rows.append(f"| {name} | {np.mean(each):.2f} | {max(each):.2f} | {np.mean(deep):.3f} | {max(deep):.3f} |")
        shares[name] = {c: np.mean([100 * r[c][0] / max(1, r[c][1]) for r, _ in results]) for c in results[0][0]}
        print(rows[-1], flush=True)
    straight = shares["as they are"]
    lines = [
        "# Left and right",
        "",
        f"{len(paths)} label maps whose sides are known: {len(list(args.maps.glob('*_dseg.nii.gz')))} of FreeSurfer's "
        "convention and those of scans in MICCAI 2012's. Per cent of the voxels of structures with two sides that end "
        "on the wrong side: the mean over the heads and the worst head. *Deep*: caudate, putamen, pallidum, "
        "hippocampus, amygdala and accumbens.",
        "",
        "| heads | all, mean % | all, worst % | deep, mean % | deep, worst % |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "| structure, heads as they are | wrong, mean % |",
        "|---|---|",
        *(f"| {name} | {straight[index]:.2f} |" for index, name in enumerate(NAMES, start=1)),
        "",
        f"The search for the surface takes {np.median(taken):.0f} ms of one processor (median).",
        "",
        f"Machine: {hardware()}. Commit {commit()}.",
        "",
        f"Made by `python bench/sides.py --maps DIR --scans DIR -o {args.output.name}`.",
    ]
    args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
