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
import onnx
from numpy.random import Generator
from onnx import AttributeProto, TensorProto, helper

from mixpriv import engine
from mixpriv.bundle import Bundle, load_bundle
from mixpriv.client.proxy import Unmixer
from mixpriv.client.random import Stream
from mixpriv.client.reference import ReferenceModel, draw_reference
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.engine.onnx_operators import OPERATORS
from mixpriv.errors import InputError
from tests.toybundle import write_toy_bundle, write_toy_crop_bundle

Content = bytes | str  # a string: another kind of file
Example = Mapping[str, Content]

_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 16, 255, 2**31, 2**63, 10**400, 0.5, 1.0, -0.0, 1e-320, 1e308, float("nan"),
    float("inf"), "", "a", "../../x", "a/b", "\x1b[2J", "a\nb", "\ud800", "\u202e", "=1+1", "x" * 5000, "target",
    "0" * 64, [], [[]], {}, [1, 1], [0.0, 0.5], [0.6, 0.4], [1, 1, 1], [512, 512, 512], ["a", "a"], ["a"] * 300,
    {"a": 1}, {"mean": 0, "std": 0}, [16, 16, 16], [65536, 16, 16], [1e-9, 0.1],
)  # fmt: skip


@functools.cache
def healthy() -> dict[str, dict[str, bytes]]:
    """The files of two toy bundles: one for heads, one for crops with references."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, write in (("head", write_toy_bundle), ("crop", write_toy_crop_bundle)):
            write(Path(folder, name))
            found[name] = {path.name: path.read_bytes() for path in sorted(Path(folder, name).iterdir())}
    return found


def example(random: Generator) -> Example:
    """A bundle with one file changed, and its fingerprint made right again if that is the segmenter's."""
    kind = random.choice(["json", "json bytes", "npz", "npz bytes", "onnx", "onnx bytes", "onnx parts", "file"])
    files: dict[str, Content] = dict(healthy()["crop" if kind.startswith("npz") or random.random() < 0.3 else "head"])
    networks = [name for name in files if name.endswith(".onnx")]
    name = {"j": "bundle.json", "n": "reference.npz"}.get(str(kind)[0]) or str(random.choice(networks))
    content = files[name]
    assert isinstance(content, bytes)
    if kind == "file":
        name = str(random.choice(list(files)))
        files[name] = str(random.choice(["pipe", "link", "inner link", "loop", "folder", "missing", "zeros"]))
        return files
    change: Callable[[bytes, Generator], bytes] = {
        "json": _other_json, "npz": _other_npz, "onnx": _other_onnx, "onnx parts": _other_parts,
    }.get(str(kind), _other_bytes)  # fmt: skip
    for _ in range(random.integers(1, 4)):
        content = change(content, random)
    files[name] = content
    if name == "segmenter.onnx":
        record = json.loads(files["bundle.json"])
        files["bundle.json"] = json.dumps(record | {"fingerprint": hashlib.sha256(content).hexdigest()}).encode()
    return files


def _other_bytes(data: bytes, random: Generator) -> bytes:
    """Some bytes changed, cut out, doubled or put in."""
    if not data:
        return b"x"
    start, length = int(random.integers(len(data))), int(random.integers(1, 64))
    part = data[start : start + length]
    new = [
        bytes([part[0] ^ 1 << int(random.integers(8))]) + part[1:],
        b"", part + part, part[::-1], random.bytes(length), b"\xff" * length, b"\0" * length, part + random.bytes(8),
    ]  # fmt: skip
    return data[:start] + new[int(random.integers(len(new)))] + data[start + length :]


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
        holder[str(random.choice(["extra", "../x", "\x1b[0m", "config", "crop", "shielded", "unmixer_sees"]))] = odd
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


def _other_onnx(data: bytes, random: Generator) -> bytes:
    """A network with another operator, attribute, weight, shape or connection, or with what no network here has."""
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's errors are not public
        return data
    graph = model.graph
    node = graph.node[int(random.integers(len(graph.node)))] if graph.node else helper.make_node("Abs", ["x"], ["y"])
    changes = [_operator, _attribute, _connection, _weight, _shape, _strange, _more]
    changes[int(random.integers(len(changes)))](model, node, random)
    try:
        return bytes(model.SerializeToString())
    except Exception:  # text that is no UTF-8
        return data


def _operator(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    others = [
        *OPERATORS,
        "Loop",
        "If",
        "Scan",
        "Expand",
        "Tile",
        "ConstantOfShape",
        "Range",
        "ATen",
        "NonZero",
        "\x1b[m",
    ]
    node.op_type = str(random.choice(others))
    if random.random() < 0.1:
        node.domain = str(random.choice(["ai.onnx", "ai.onnx.ml", "com.microsoft", "org.pytorch.aten"]))


def _attribute(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    odd: list[Any] = [
        0, 1, -1, 2, 5, 2**31, 2**62, 0.5, float("nan"), "SAME_UPPER", [1, 1, 1], [2, 2, 2], [0], [-1] * 6, [2**40] * 3,
        [1000] * 6, [1.5, 2.5], helper.make_tensor("t", TensorProto.INT64, [2], [2**40, 2**40]),
    ]  # fmt: skip
    value = odd[int(random.integers(len(odd)))]
    if node.attribute and random.random() < 0.7:
        name = node.attribute[int(random.integers(len(node.attribute)))].name
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
    else:
        known = [
            "axis",
            "pads",
            "strides",
            "dilations",
            "group",
            "kernel_shape",
            "auto_pad",
            "output_shape",
            "body",
            "to",
        ]
        name = str(random.choice(known))
    node.attribute.append(helper.make_attribute(name, value))


def _connection(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    graph = model.graph
    names = ["", "nothing", *(t.name for t in graph.initializer), *(o for n in graph.node for o in n.output)]
    names += [port.name for port in (*graph.input, *graph.output)]
    field = node.input if random.random() < 0.8 else node.output
    if field and random.random() < 0.8:
        field[int(random.integers(len(field)))] = str(random.choice(names))
    else:
        field.append(str(random.choice(names)))


def _weight(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    tensor = model.graph.initializer[int(random.integers(len(model.graph.initializer)))]
    changes: list[Callable[[], Any]] = [
        lambda: tensor.dims.append(int(random.choice([0, 1, 2, -1, 2**40]))),
        lambda: tensor.dims.reverse(),
        lambda: setattr(tensor, "data_type", int(random.integers(0, 24))),
        lambda: setattr(tensor, "raw_data", tensor.raw_data[:-1]),
        lambda: setattr(tensor, "raw_data", b"\xff" * len(tensor.raw_data)),
        lambda: tensor.ClearField("raw_data"),
        lambda: tensor.external_data.add(key="location", value=str(random.choice(["_ORT_MEM_ADDR_", "/etc/passwd"]))),
        lambda: setattr(tensor, "data_location", 1),
        lambda: tensor.float_data.append(1.0),
        lambda: setattr(tensor, "name", str(random.choice(["mixture", "x0", "", "image"]))),
    ]
    changes[int(random.integers(len(changes)))]()


def _shape(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    ports = [*model.graph.input, *model.graph.output]
    port = ports[int(random.integers(len(ports)))]
    kind = port.type.tensor_type
    if random.random() < 0.3:
        kind.elem_type = int(random.integers(0, 20))
    elif kind.shape.dim and random.random() < 0.8:
        dim = kind.shape.dim[int(random.integers(len(kind.shape.dim)))]
        dim.dim_value = int(random.choice([-1, 0, 1, 2, 7, 64, 2**20, 2**62]))
    elif random.random() < 0.5:
        kind.shape.dim.add(dim_param="more")
    else:
        port.name = str(random.choice(["other", "\x1b[2J", "", "x" * 2000]))


def _strange(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    """What no parser may follow: loops, functions, other files, other operator sets."""
    graph = model.graph
    what = int(random.integers(7))
    if what == 0:
        body = helper.make_graph([], "body", [], [])
        node.attribute.append(helper.make_attribute("body", body))
    elif what == 1:
        model.functions.add(name="f", domain="d")
    elif what == 2:
        model.opset_import.add(domain="com.microsoft", version=1)
    elif what == 3:
        model.opset_import[0].version = int(random.choice([0, 1, 7, 13, 17, 21, 25, 2**40]))
    elif what == 4:
        graph.sparse_initializer.add()
    elif what == 5:
        model.ir_version = int(random.choice([0, 3, 4, 13, 14, 2**40]))
    else:
        node.attribute.append(AttributeProto(name="x", ref_attr_name="y", type=1))


def _more(model: onnx.ModelProto, node: onnx.NodeProto, random: Generator) -> None:
    """Nodes that make much of little, or a long chain."""
    graph = model.graph
    name = node.output[0] if node.output else "x"
    op = str(random.choice(["Concat", "Add", "Mul", "ConvTranspose", "Identity", "Exp", "Softmax", "Transpose"]))
    for i in range(int(random.choice([1, 5, 40]))):
        inputs = [name] if op in ("Identity", "Exp", "Softmax", "Transpose") else [name, name]
        extra = {"axis": int(random.integers(-2, 3))} if op in ("Concat", "Softmax") else {}
        graph.node.append(helper.make_node(op, inputs, [f"more{i}"], **extra))
        name = f"more{i}"
    if random.random() < 0.7 and graph.output:
        graph.node.append(helper.make_node("Identity", [name], ["last"]))
        graph.output[0].name = "last"


def _other_parts(data: bytes, random: Generator) -> bytes:
    """A field of the wire format, at some depth, doubled, dropped, moved or of another number."""
    fields = list(_fields(data))
    if not fields:
        return _other_bytes(data, random)
    index = int(random.integers(len(fields)))
    number, kind, value = fields[index]
    what = random.random()
    if kind == 2 and value and what < 0.7:
        fields[index] = (number, kind, _other_parts(value, random))
    elif what < 0.8:
        fields.insert(int(random.integers(len(fields))), fields[index])
    elif what < 0.9:
        del fields[index]
    elif what < 0.95:
        fields[index] = (int(random.integers(1, 30)), kind, value)
    else:
        fields[index] = (number, 0, random.bytes(3) + b"\1")
    return b"".join(_encoded(*field) for field in fields)


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        start = at
        if tag & 7 == 0:
            _, at = _varint(data, at)
        elif tag & 7 == 2:
            size, start = _varint(data, at)
            at = start + size
        else:
            at += 4 if tag & 7 == 5 else 8
        if at > len(data):
            return
        yield tag >> 3, tag & 7, data[start:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            break
    return value, at


def _encoded(number: int, kind: int, value: bytes) -> bytes:
    return _number(number << 3 | kind) + (_number(len(value)) if kind == 2 else b"") + value


def _number(value: int) -> bytes:
    made = b""
    while value > 127:
        made += bytes([value & 127 | 128])
        value >>= 7
    return made + bytes([value])


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
    same = next((h for h in healthy().values() if h["unmixer.onnx"] == files.get("unmixer.onnx")), {})
    changed = [name for name in files if name not in same or same[name] != files[name]]
    if "segmenter.onnx" in changed:
        InProcessSegmenter(bundle.segmenter_path).segment(np.zeros((1, len(bundle.modalities), *sizes), np.float16))
    if "unmixer.onnx" in changed:
        Unmixer.of(bundle, threads=1)
    if "extractor.onnx" in changed and bundle.extractor_spacing_mm is not None:
        engine.load(bundle.extractor_path, threads=1)(image=np.zeros((1, 1, *sizes), np.float32))
    if "reference.npz" in changed:
        draw_reference(ReferenceModel.of(bundle), Stream(bytes(32)))
