"""Every kernel against the machine's copy bandwidth and other libraries: ``python bench/kernels.py -o F.md``.

Time is the best of several calls, the result's memory included where a kernel makes it. The bytes are those that must
move: each input read once, each result written once. The copy bandwidth is measured by as many threads, on arrays far
larger than the caches; kernel and copy take turns, so that what else the machine does meets both. Every answer is
checked: against the libraries that do the same job, or the definition in NumPy.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from mixpriv import _native, cuda, kernels
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.warp import displacement, draw_warp
from mixpriv.provenance import commit, hardware
from mixpriv.threads import available_threads

Array = Any
CLASSES = 6
RANGE = (50.0, 700.0)
WEIGHT = 0.4
TRUST = 2.5
COPY_BYTES = 2**28
SECONDS = 1.0  # at most about this long for one number, but two calls at least
TURNS = 20


@dataclass(frozen=True)
class Backend:
    """Where kernels run: how an array gets there and back, how a call is timed, and how `COPY_BYTES` are copied."""

    name: str
    copy: Callable[[], Any]
    seconds: Callable[[Callable[[], Any]], float]
    put: Callable[[Array], Array] = lambda array: array
    get: Callable[[Array], Array] = np.asarray


@dataclass(frozen=True)
class Task:
    """One kernel on one size: what it is called with, what must move, who else does the same and how near they are."""

    name: str
    moved_bytes: int
    call: Callable[..., Any]
    arrays: tuple[Array, ...]
    others: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    tolerance: float = 0.0
    share: float = 1.0  # of the voxels that must agree within it: ties round this way or that
    where: Array | None = None  # which voxels are compared, None for all
    on_devices: bool = True  # whether it runs on a CUDA device, too


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    kernel: str
    size: int
    backend: str
    milliseconds: float
    moved_mb: float
    gb_s: float
    copy_gb_s: float
    of_copy: float
    others_ms: dict[str, float]


def best_seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Best time of a call, the first not counted, and its result."""
    result, times, end = call(), [], time.perf_counter() + SECONDS
    while len(times) < 2 or (time.perf_counter() < end and len(times) < TURNS):
        del result
        begin = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - begin)
    return min(times), result


def beside_copies(call: Callable[[], Any], backend: Backend) -> tuple[float, float]:
    """Best time of a call and best copy bandwidth, GB/s read and written; the two take turns."""
    times, copies, end = [], [], time.perf_counter() + 2 * SECONDS
    while len(times) < 3 or (time.perf_counter() < end and len(times) < TURNS):
        copies.append(backend.seconds(backend.copy))
        times.append(backend.seconds(call))
    return min(times), 2 * COPY_BYTES / min(copies) / 1e9


def on_the_cpu(threads: int, pool: ThreadPoolExecutor) -> Backend:
    """The processor of the machine; copies are made by as many threads."""
    source, target = np.ones(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)
    pairs = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))

    def copy() -> None:
        list(pool.map(lambda pair: np.copyto(*pair), pairs))

    def seconds(call: Callable[[], Any]) -> float:
        begin = time.perf_counter()
        result = call()
        took = time.perf_counter() - begin
        del result  # giving memory back is not the kernel's
        return took

    return Backend("cpu", copy, seconds)


def cuda_backends() -> list[Backend]:
    """The CUDA device, if there is one: times by its own events, its copy bandwidth within the device."""
    if cuda.problem() is not None or cuda.is_emulation():
        return []
    source = cuda.to_device(np.ones(COPY_BYTES, np.uint8))
    get: Callable[[Array], Array] = lambda array: array.copy_to_host()  # noqa: E731
    return [Backend(f"cuda ({cuda.devices()[0]})", lambda: cuda.copy(source), cuda.seconds, cuda.to_device, get)]


class Scene:
    """Arrays of one size that look like a head's: a ball in the middle, folded labels in it, a warp of 4 mm."""

    def __init__(self, size: int) -> None:
        self.size, self.shape, self.voxels = size, (size, size, size), size**3
        rng = np.random.default_rng(size)
        x = np.ogrid[:size, :size, :size]
        radius = sum(((a - size / 2) / (0.4 * size)) ** 2 for a in x)
        self.mask = (radius < 1).astype(np.uint8)
        self.image = rng.normal(350, 120, self.shape).astype(np.float32)
        self.reference = rng.random(self.shape, np.float32)
        folds = ndimage.gaussian_filter(rng.standard_normal(self.shape, np.float32), 4)
        self.labels = (self.mask * (1 + np.clip(folds / folds.std() + 2, 0, CLASSES - 2))).astype(np.uint8)
        self.answer = rng.integers(0, 256 // CLASSES, (CLASSES - 1, *self.shape), np.uint8)
        self.warp = draw_warp(Keystream(bytes(32)), self.shape, 4.0, 1.0).forward
        # another spacing, axes in reverse order, off centre: as a scan in the file's order is conformed
        self.matrix = np.array([[0, 0, 1.07, 1.3], [0, 0.95, 0, 2.6], [1.02, 0, 0, -1.9]])
        turn = np.linalg.qr(np.eye(3) + 0.1 * rng.standard_normal((3, 3)))[0]
        self.oblique = np.ascontiguousarray(np.column_stack([turn, (np.eye(3) - turn) @ np.full(3, size / 2)]))

    @cached_property
    def probabilities(self) -> Array:
        shares = [ndimage.gaussian_filter((self.labels == c).astype(np.float32), 0.8) for c in range(CLASSES)]
        return np.stack(shares)

    def inside(self, matrix: Array) -> Array:
        """Where an affine leads into the image: beyond it libraries differ."""
        i, j, k = np.ogrid[: self.size, : self.size, : self.size]
        positions = (row[0] * i + row[1] * j + row[2] * k + row[3] for row in matrix)
        return np.logical_and.reduce([(p >= 0) & (p <= self.size - 1) for p in positions])

    @cached_property
    def masked(self) -> Array:
        """The probabilities with nothing but background outside the mask."""
        shares = self.probabilities * (self.mask != 0)
        shares[0] += self.probabilities.sum(axis=0) * (self.mask == 0)
        return shares

    @cached_property
    def bent(self) -> Array:
        """Positions x + u(x)."""
        return displacement(self.warp, self.shape) + np.indices(self.shape, np.float32)


def numpy_mix(s: Scene) -> Array:
    """The mixture, operation by operation."""
    lo, hi = np.float32(RANGE[0]), np.float32(RANGE[1])
    t = np.clip((s.image - lo) * (np.float32(1) / (hi - lo)), 0, 1) * (s.mask != 0)
    r = np.clip(s.reference, 0, 1) * (s.mask != 0)
    weight = np.float32(WEIGHT)
    return (weight * t + (np.float32(1) - weight) * r).astype(np.float16)


def numpy_unpack(s: Scene) -> Array:
    """The unmixer's input, operation by operation."""
    weight, one, full = np.float32(WEIGHT), np.float32(1), np.float32(255)
    background = np.maximum(255 - s.answer.sum(axis=0, dtype=np.int16), 0)
    shares = np.concatenate([background[None], s.answer]).astype(np.float32) / full
    known = (s.labels == np.arange(CLASSES, dtype=np.uint8).reshape(-1, 1, 1, 1)).astype(np.float32)
    linear = np.clip((shares - (one - weight) * known) / weight, -1, 2)
    return np.concatenate([linear, known, np.full_like(linear[:1], weight)])


def numpy_unmix(correction: Array, linear: Array) -> Array:
    """The soft-max, operation by operation."""
    d, h, w = correction.shape[1:]
    blocks = correction.reshape(CLASSES, 2, 2, 2, d, h, w).transpose(0, 4, 1, 5, 2, 6, 3)
    logits = blocks.reshape(linear.shape) + np.float32(TRUST) * linear
    shares = np.exp(logits - logits.max(axis=0))
    return shares / shares.sum(axis=0)


def affine(s: Scene, image: Array, matrix: Array) -> Array:
    """SciPy's resampling; beyond the image its edge goes on, as here up to half a voxel."""
    where = matrix[:, :3], matrix[:, 3]
    return ndimage.affine_transform(image, *where, s.shape, order=1, mode="nearest", output=image.dtype)


def sitk_resampler(image: Array, matrix: Array, threads: int) -> Callable[[], Array]:
    """SimpleITK's resampling of an array through an index affine; its axes run the other way."""
    import SimpleITK as sitk  # noqa: N813 - its users know it by this name

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    moving = sitk.GetImageFromArray(image)
    transform = sitk.AffineTransform(matrix[::-1, 2::-1].ravel().tolist(), matrix[::-1, 3].tolist())
    kept = []  # a view does not keep its image

    def call() -> Array:
        kept[:] = [sitk.Resample(moving, moving, transform, sitk.sitkLinear, 0.0)]
        return sitk.GetArrayViewFromImage(kept[0])

    return call


def torch_calls(s: Scene, threads: int) -> dict[str, Callable[[], Array]]:
    """What PyTorch does of the same jobs, on the CPU."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    torch.set_num_threads(threads)
    image, reference, mask = (torch.from_numpy(a) for a in (s.image, s.reference, s.mask))
    shares = torch.from_numpy(s.probabilities)
    total = shares.clone()
    lo, scale = np.float32(RANGE[0]), np.float32(1) / (np.float32(RANGE[1]) - np.float32(RANGE[0]))

    def mixed() -> Array:
        inside = mask != 0
        t = ((image - float(lo)) * float(scale)).clamp(0, 1) * inside
        return (WEIGHT * t + (1 - WEIGHT) * reference.clamp(0, 1) * inside).half().numpy()

    return {
        "mix": mixed,
        "argmax": lambda: shares.argmax(0).to(torch.uint8).numpy(),
        "block_mean": lambda: torch.nn.functional.avg_pool3d(image[None], 2)[0].numpy(),
        "accumulate": lambda: total.copy_(shares).add_(shares).numpy(),
    }


def tasks(s: Scene, threads: int) -> Iterator[Task]:
    """All kernels on one scene."""
    n, c = s.voxels, CLASSES
    torch = torch_calls(s, threads)
    itk = importlib.util.find_spec("SimpleITK") is not None

    def others(name: str, **own: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
        return own | ({"torch": torch[name]} if name in torch else {})

    def resamplers(matrix: Array) -> dict[str, Callable[[], Any]]:
        scipy = {"scipy": lambda: affine(s, s.image, matrix)}
        return scipy | ({"simpleitk": sitk_resampler(s.image, matrix, threads)} if itk else {})

    def sampled(image: Array, **mode: Any) -> Array:
        return ndimage.map_coordinates(image, s.bent, mode="constant", output=image.dtype, **mode)

    inside = s.image[s.mask != 0]
    yield Task("robust_range", 5 * n, kernels.robust_range, (s.image, s.mask),
               {"numpy": lambda: np.percentile(inside, (0.5, 99.5))}, 1e-3)  # fmt: skip
    yield Task("robust_range, no mask", 4 * n, kernels.robust_range, (s.image,),
               {"numpy": lambda: np.percentile(s.image, (0.5, 99.5))}, 1e-3)  # fmt: skip
    yield Task("block_mean, 2x2x2", 4 * n + n // 2, lambda x: kernels.block_mean(x, (2, 2, 2)), (s.image,),
               others("block_mean", numpy=lambda: s.image.reshape(3 * (s.size // 2, 2)).mean(axis=(1, 3, 5))),
               1e-3)  # fmt: skip
    for name, matrix in (("resample, axes reversed", s.matrix), ("resample, oblique", s.oblique)):
        yield Task(name, 8 * n, lambda x, m=matrix: kernels.resample(x, m, s.shape), (s.image,),
                   resamplers(matrix), 0.05, where=s.inside(matrix))  # fmt: skip
    masks = s.mask, s.mask.copy()  # two, as a client has: one read twice would be fetched once
    yield Task("mix, new memory", 12 * n, lambda x, m, r, k: kernels.mix(x, m, RANGE, r, k, WEIGHT),
               (s.image, masks[0], s.reference, masks[1]), others("mix", numpy=lambda: numpy_mix(s)), 5e-4)  # fmt: skip
    yield Task("mix, warped", 12 * n,
               lambda x, m, r, u: kernels.mix(x, m, RANGE, r, m, WEIGHT, warp=(u, s.warp[1])),
               (s.image, s.mask, s.reference, s.warp[0]),
               {"scipy": lambda: sampled(numpy_mix(s).astype(np.float32), order=1)}, 2e-3, 0.99)  # fmt: skip
    yield Task("unpack", (c + 4 * (2 * c + 1)) * n, lambda a, y, out: kernels.unpack(a, y, WEIGHT, out=out),
               (s.answer, s.labels, np.zeros((2 * c + 1, *s.shape), np.float32)),
               {"numpy": lambda: numpy_unpack(s)})  # fmt: skip
    yield Task("unpack, new memory", (c + 4 * (2 * c + 1)) * n, lambda a, y: kernels.unpack(a, y, WEIGHT),
               (s.answer, s.labels), {"numpy": lambda: numpy_unpack(s)})  # fmt: skip
    correction = np.random.default_rng(0).standard_normal((8 * c, *(s.size // 2,) * 3), np.float32)
    yield Task("unmix, new memory", 12 * c * n, lambda x, known: kernels.unmix(x, known[:c], TRUST),
               (correction, numpy_unpack(s)), {"numpy": lambda: numpy_unmix(correction, numpy_unpack(s)[:c])},
               1e-5, on_devices=False)  # fmt: skip
    yield Task("accumulate", 12 * c * n, lambda total, p: kernels.accumulate(total, p) or total,
               (np.zeros_like(s.probabilities), s.probabilities))  # fmt: skip
    yield Task("argmax", (4 * c + 1) * n, kernels.argmax, (s.probabilities,),
               others("argmax", numpy=lambda: s.probabilities.argmax(axis=0)))  # fmt: skip
    yield Task("restore_labels", (4 * c + 1 + 1) * n,
               lambda p, m: kernels.restore_labels(p, s.matrix, s.shape, mask=m), (s.probabilities, s.mask),
               {"scipy": lambda: np.argmax([affine(s, p, s.matrix) for p in s.masked], axis=0)},
               0, 0.999, s.inside(s.matrix))  # fmt: skip
    yield Task("warp, 6 classes", 8 * c * n, lambda p, u: kernels.warp(p, u, s.warp[1]), (s.probabilities, s.warp[0]),
               {"scipy": lambda: np.stack([sampled(p, order=1) for p in s.probabilities])}, 1e-3, 0.99)  # fmt: skip
    yield Task(f"warp_answer, {len(s.answer)} channels", 2 * len(s.answer) * n,
               lambda a, u: kernels.warp_answer(a, u, s.warp[1]), (s.answer, s.warp[0]),
               {"scipy": lambda: np.stack([sampled(a, order=1) for a in s.answer])}, 1, 0.99,
               on_devices=False)  # fmt: skip
    yield Task("warp_labels", 2 * n, lambda y, u: kernels.warp_labels(y, u, s.warp[1]), (s.labels, s.warp[0]),
               {"scipy": lambda: sampled(s.labels, order=0)}, 0, 0.95)  # fmt: skip


def check(task: Task, who: str, got: Any, expected: Any) -> None:
    """Stop unless two answers agree."""
    got, expected = np.asarray(got, np.float32), np.asarray(expected, np.float32)
    near = np.abs(got - expected) <= task.tolerance
    same = float((near if task.where is None else near[task.where]).mean())
    if same < task.share:
        raise SystemExit(f"bench: {task.name}: only {100 * same:.2f} % of the values are {who}'s")


def measure(task: Task, backends: Sequence[Backend], size: int) -> Iterator[Row]:
    """Time a kernel on every backend and the others once, and compare all answers."""
    answers = {who: best_seconds(call) for who, call in task.others.items()}
    for backend in backends if task.on_devices else backends[:1]:
        arrays = [backend.put(array) for array in task.arrays]
        call = partial(task.call, *arrays)
        result = call()
        if task.name == "accumulate":
            steps = float(np.asarray(backend.get(result)).sum(dtype=np.float64) / task.arrays[1].sum(dtype=np.float64))
            if abs(steps - round(steps)) > 1e-3:
                raise SystemExit("bench: accumulate: the sum is no multiple of what was added")
        else:
            got = result if isinstance(result, tuple) else backend.get(result)
            for who, (_, expected) in answers.items():
                check(task, who, got, expected)
        seconds, copy_gb_s = beside_copies(call, backend)
        gb_s = task.moved_bytes / seconds / 1e9
        others_ms = {who: 1e3 * other for who, (other, _) in answers.items()}
        yield Row(task.name, size, backend.name, 1e3 * seconds, task.moved_bytes / 1e6,
                  gb_s, copy_gb_s, gb_s / copy_gb_s, others_ms)  # fmt: skip


def table(rows: Sequence[Row], command: str) -> str:
    """The markdown page."""
    lines = [
        "# Kernels against the memory",
        "",
        f"Machine: {hardware()}; kernels: {_native.isa()}, {available_threads()} threads; commit {commit()}.",
        '"Copy" is the bandwidth of copying memory, GB/s read and written, by turns with the kernel; "of copy" the',
        "share of it that the kernel reaches, counting the bytes that must move: above 1 where they stay in the",
        "caches, or where a kernel skips the image outside the mask.",
        "",
        "| kernel | size | on | ms | MB | GB/s | copy | of copy | others, ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        others = ", ".join(f"{who} {ms:.0f}" for who, ms in r.others_ms.items())
        lines.append(
            f"| {r.kernel} | {r.size}³ | {r.backend} | {r.milliseconds:.3g} | {r.moved_mb:.0f} | {r.gb_s:.1f} "
            f"| {r.copy_gb_s:.1f} | {r.of_copy:.2f} | {others} |"
        )
    return "\n".join([*lines, "", f"Made by `{command}`.", ""])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all kernels and write the table, and JSON beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 192, 256], help="voxels along each axis")
    parser.add_argument("--only", default="", help="kernels whose name starts with this")
    parser.add_argument("-o", "--output", type=Path, required=True, help="markdown file; JSON is written beside it")
    args = parser.parse_args(argv)
    threads = available_threads()
    rows: list[Row] = []
    with ThreadPoolExecutor(threads) as pool:
        backends = [on_the_cpu(threads, pool), *cuda_backends()]
        for size in args.sizes:
            for task in tasks(Scene(size), threads):
                if task.name.startswith(args.only):
                    for row in measure(task, backends, size):
                        rows.append(row)
                        print(f"{row.kernel} {size}: {row.milliseconds:.1f} ms, {row.of_copy:.2f} of copy", flush=True)
    command = f"python bench/kernels.py --sizes {' '.join(map(str, args.sizes))} -o {args.output.name}"
    args.output.write_text(table(rows, command), encoding="utf-8")
    document = {
        "hardware": hardware(),
        "isa": _native.isa(),
        "threads": threads,
        "commit": commit(),
        "rows": [asdict(row) for row in rows],
    }
    args.output.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
