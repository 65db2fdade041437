"""Bundles with something wrong in them: whatever stands in one, it is read, or refused in one line as bad input."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mixpriv.export.split import split
from numpy.random import Generator

from mixpriv import engine
from mixpriv.bundle import Bundle, load_bundle
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.errors import InputError
from mixpriv.protection.keystream import Keystream
from mixpriv.protection.reference import ReferenceModel, draw_reference
from mixpriv.protection.unmixing import LocalNetwork, Unmixer
from tests.fuzz.grown import grown_network
from tests.fuzz.networks import other_bytes, other_network, other_parts
from tests.support.toybundle import write_toy_bundle, write_toy_crop_bundle

Content = bytes | str  # a string: another kind of file
Example = Mapping[str, Content]

_KINDS = ("json", "json bytes", "npz", "npz bytes", "onnx", "onnx bytes", "onnx parts", "onnx grown", "file")
_SHARES = (0.15, 0.04, 0.15, 0.06, 0.2, 0.05, 0.1, 0.2, 0.05)
_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 16, 255, 2**31, 2**63, 10**400, 0.5, 1.0, -0.0, 1e-320, 1e308, float("nan"),
    float("inf"), "", "a", "../../x", "a/b", "\x1b[2J", "a\nb", "\ud800", "\u202e", "=1+1", "x" * 5000, "target",
    "0" * 64, "client", "server", [], [[]], {}, [1, 1], [0.0, 0.5], [0.6, 0.4], [1, 1, 1], [512, 512, 512],
    ["a", "a"], ["a"] * 300, {"a": 1}, {"mean": 0, "std": 0}, [16, 16, 16], [65536, 16, 16], [1e-9, 0.1],
)  # fmt: skip
_KEYS = ("extra", "../x", "\x1b[0m", "config", "crop", "shielded", "unmixer_sees", "files", "part")


@functools.cache
def healthy() -> dict[str, dict[str, bytes]]:
    """The files of toy bundles: for heads, for crops, one whose record names all files, and its two parts."""
    with tempfile.TemporaryDirectory() as folder:
        write_toy_bundle(Path(folder, "head"))
        write_toy_crop_bundle(Path(folder, "crop"))
        split(write_toy_bundle(Path(folder, "named"), local=True), Path(folder, "parts"), {})
        places = {name: Path(folder, name) for name in ("head", "crop", "named")}
        places |= {side: Path(folder, "parts", side) for side in ("client", "server")}
        return {name: {p.name: p.read_bytes() for p in sorted(place.iterdir())} for name, place in places.items()}


def example(random: Generator) -> Example:
    """A bundle with one file changed, and its fingerprint and most often its digest made right again."""
    kind = random.choice(_KINDS, p=_SHARES)
    base = str(random.choice(list(healthy()), p=[0.3, 0.3, 0.15, 0.15, 0.1]))
    if kind.startswith("npz") or kind == "onnx grown":
        base = "crop" if kind.startswith("npz") else "head"
    files: dict[str, Content] = dict(healthy()[base])
    networks = [name for name in files if name.endswith(".onnx")]
    name = {"j": "bundle.json", "n": "reference.npz"}.get(str(kind)[0]) or str(random.choice(networks))
    if kind == "onnx grown":
        return files | {"extractor.onnx": grown_network(random)}
    content = files[name]
    assert isinstance(content, bytes)
    if kind == "file":
        name = str(random.choice(list(files)))
        files[name] = str(random.choice(["pipe", "link", "inner link", "loop", "folder", "missing", "zeros"]))
        return files
    change: Callable[[bytes, Generator], bytes] = {
        "json": _other_json, "npz": _other_npz, "onnx": other_network, "onnx parts": other_parts,
    }.get(str(kind), other_bytes)  # fmt: skip
    for _ in range(int(random.choice([1, 1, 1, 2, 4]))):
        content = change(content, random)
    files[name] = content
    if name != "bundle.json":
        files["bundle.json"] = _named(files["bundle.json"], name, content, right=random.random() < 0.9)
    return files


def _named(record: Content, name: str, content: bytes, *, right: bool) -> bytes:
    """A record with a file's fingerprint, and its digest if that is to be right."""
    fields, digest = json.loads(record), hashlib.sha256(content).hexdigest()
    if name == "segmenter.onnx":
        fields["fingerprint"] = digest
    if "files" in fields and right:
        fields["files"][name] = digest
    return json.dumps(fields).encode()


def _other_json(data: bytes, random: Generator) -> bytes:
    """Another value somewhere, one less or one more, a key twice, or brackets without end."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    holder, key = document, None
    while isinstance(holder, (dict, list)) and holder:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = keys[int(random.integers(len(keys)))]
        if not isinstance(holder[key], (dict, list)) or not holder[key] or random.random() < 0.4:
            break
        holder = holder[key]
    odd = copy.deepcopy(_ODD[int(random.integers(len(_ODD)))])
    what = random.random()
    if key is None or not isinstance(holder, (dict, list)):
        document = odd
    elif what < 0.75:
        holder[key] = odd
    elif what < 0.85:
        del holder[key]
    elif isinstance(holder, dict):
        holder[str(random.choice(_KEYS))] = odd
    text = json.dumps(document)
    if what > 0.97:
        depth = int(random.choice([20, 200, 100_000]))
        text = text[:-1] + ', "config": ' + "[" * depth + "]" * depth + "}"
    elif what > 0.94:
        text = text[:-1] + ', "name": "twice"}'
    return text.encode("utf-8", "surrogatepass")


def _other_npz(data: bytes, random: Generator) -> bytes:
    """An array of another type, shape or content, a member too many, too few or twice, or one that unpacks to much."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if isinstance(file[name], np.ndarray)}
    except Exception:  # what NumPy raises for what was changed before
        return data
    if not arrays:
        return data
    name = str(random.choice(list(arrays)))
    array = arrays[name]
    changed: list[Callable[[], Any]] = [
        lambda: array.astype(str(random.choice(["f2", "f4", "f8", "u1", "i8", "c8", "U3", "?"]))),
        lambda: array.astype(object),
        lambda: np.zeros(tuple(random.integers(0, 5, random.integers(0, 6))), array.dtype),
        lambda: np.full_like(array, random.choice([0, 1, 127])),
        lambda: np.full(array.shape, random.choice([np.nan, np.inf, -1e30, 1e30]), "f4"),
        lambda: array.ravel()[: int(random.integers(array.size + 1))],
        lambda: np.asfortranarray(random.permutation(array.ravel()).reshape(array.shape)),
        lambda: array + array.dtype.type(1),
    ]
    with contextlib.suppress(TypeError, ValueError), np.errstate(all="ignore"):  # of what was changed before
        arrays[name] = changed[int(random.integers(len(changed)))]()
    buffer, what = io.BytesIO(), random.random()
    if what < 0.1:
        arrays["../extra"] = array
    elif what < 0.2:
        del arrays[name]
    np.savez_compressed(buffer, **arrays)
    if what > 0.9:
        with zipfile.ZipFile(buffer, "a", int(random.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))) as archive:
            archive.writestr(str(random.choice(["bomb.npy", "x" * 300, "atlas.npy "])), b"\0" * 2**20)
    elif what > 0.8:
        huge = {"descr": "|u1", "fortran_order": False, "shape": tuple(int(n) for n in random.integers(1, 2**40, 4))}
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, huge)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for member in arrays:
                archive.writestr(f"{member}.npy", header.getvalue())
    return buffer.getvalue()


@contextlib.contextmanager
def target() -> Iterator[Callable[[Example], None]]:
    """Read a bundle as a client and a server do, and run the networks that were changed."""
    with tempfile.TemporaryDirectory() as temporary:
        outside = Path(temporary, "outside")
        outside.write_bytes(b"{}")

        def check(files: Example) -> None:
            folder = Path(temporary, "bundle")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name, content in files.items():
                _write(folder / name, content, outside)
            try:
                _use(load_bundle(folder), files)
            except InputError as error:
                line = str(error)
                assert line.isprintable(), repr(line)
                assert len(line) < 1000, line

        yield check


def _write(path: Path, content: Content, outside: Path) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "pipe":
        os.mkfifo(path)
    elif content == "folder":
        path.mkdir()
    elif content != "missing":
        links = {"link": outside, "inner link": "licence", "loop": path.name, "zeros": "/dev/zero"}
        path.symlink_to(links[content])


def _use(bundle: Bundle, files: Example) -> None:
    sizes = 3 * (bundle.multiple,)
    known = {content for bundle in healthy().values() for content in bundle.values()}
    changed = [name for name in files if files[name] not in known and (bundle.directory / name).is_file()]
    if "segmenter.onnx" in changed:
        InProcessSegmenter(bundle.segmenter_path).segment(np.zeros((1, len(bundle.modalities), *sizes), np.float16))
    if "unmixer.onnx" in changed:
        Unmixer.of(bundle, threads=1)
    if "local.onnx" in changed:
        LocalNetwork.of(bundle, threads=1)
    if "extractor.onnx" in changed and bundle.extractor_spacing_mm is not None:
        engine.load(bundle.extractor_path, threads=1)(image=np.zeros((1, 1, *sizes), np.float32))
    if "reference.npz" in changed:
        draw_reference(ReferenceModel.of(bundle), Keystream(bytes(32)))
