"""Is a sparse or a coded answer worth it? ``python bench/answers.py BUNDLE --data DIR -o FILE``.

A full answer has a byte for each class and voxel. Tried beside it: the k most probable classes of a voxel, a byte for
the number of each and one for its probability, and lossless coding of the full answer. Measured on labelled scans, each
plain and as one mixture: mean Dice in the bundle's grid, bytes, and processor seconds of both sides.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from onnx import TensorProto, helper
from openvino import Core

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.datasets import Case, find_heads, kind_of
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.evaluation.methods import Methods, evaluation_key
from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
from mixpriv.imaging.resample import Conformed, conform_labels
from mixpriv.imaging.volume import load_volume
from mixpriv.key import content_digest
from mixpriv.labels import Labelling
from mixpriv.protection.modes import Answer, Mixup, Mode, Plain
from mixpriv.provenance import commit, hardware
from mixpriv.timing import Timings

KEPT = (2, 3, 4, 6)
FULL = "full"


@dataclass
class Form:
    """One form of an answer: Dice by mode, bytes, and processor seconds of the server's and the client's part."""

    dice: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    size: list[int] = field(default_factory=list)
    server_s: list[float] = field(default_factory=list)
    client_s: list[float] = field(default_factory=list)


def with_background(answer: Answer) -> Answer:
    """All classes (C, D, H, W), the background as what the others leave."""
    rest = 255 - np.minimum(answer.sum(axis=0, dtype=np.uint16), 255)
    return np.concatenate([rest[None].astype(np.uint8), answer])


def kept(answer: Answer, k: int) -> tuple[Answer, Answer]:
    """Numbers and probabilities (k, D, H, W) of the most probable classes, the first the most probable."""
    classes = with_background(answer)
    order = np.argsort(255 - classes, axis=0, kind="stable")[:k].astype(np.uint8)
    return order, np.take_along_axis(classes, order.astype(np.intp), axis=0)


def spread(order: Answer, values: Answer, classes: int) -> Answer:
    """The answer that a client makes of them: what was left out goes to the most probable class."""
    dense = np.zeros((classes, order[0].size), np.uint8)
    columns = np.arange(order[0].size)
    for number, value in zip(order.reshape(len(order), -1), values.reshape(len(order), -1), strict=True):
        dense[number, columns] = value
    left = 255 - np.minimum(values.sum(axis=0, dtype=np.uint16), 255).astype(np.uint8)
    dense[order[0].ravel(), columns] += left.ravel()
    return dense[1:].reshape(classes - 1, *order.shape[1:])


def layer(shape: Sequence[int], k: int | None) -> Callable[[NDArray[np.float32]], object]:
    """The last layer of a served network, by OpenVINO on one thread: all classes, or the k most probable."""
    given = helper.make_tensor_value_info("p", TensorProto.FLOAT, shape)
    scale = helper.make_node("Constant", [], ["scale"], value=helper.make_tensor("s", TensorProto.FLOAT, [], [255.0]))
    nodes, channels = [scale], shape[1] - 1 if k is None else 2 * k
    if k is None:
        ends = [("one", [1]), ("end", [shape[1]]), ("axis", [1])]
        for name, value in ends:
            tensor = helper.make_tensor(name, TensorProto.INT64, [1], value)
            nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        nodes.append(helper.make_node("Slice", ["p", "one", "end", "axis"], ["values"]))
    else:
        tensor = helper.make_tensor("k", TensorProto.INT64, [1], [k])
        nodes.append(helper.make_node("Constant", [], ["k"], value=tensor))
        nodes.append(helper.make_node("TopK", ["p", "k"], ["values", "order"], axis=1))
        nodes.append(helper.make_node("Cast", ["order"], ["numbers"], to=TensorProto.UINT8))
    nodes.append(helper.make_node("Mul", ["values", "scale"], ["scaled"]))
    nodes.append(helper.make_node("Round", ["scaled"], ["rounded"]))
    nodes.append(helper.make_node("Cast", ["rounded"], ["out" if k is None else "bytes"], to=TensorProto.UINT8))
    if k is not None:
        nodes.append(helper.make_node("Concat", ["numbers", "bytes"], ["out"], axis=1))
    made = helper.make_tensor_value_info("out", TensorProto.UINT8, (1, channels, *shape[2:]))
    model = helper.make_model(
        helper.make_graph(nodes, "last", [given], [made]), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    core = Core()
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU", options)
    return lambda p: compiled([p])


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Processor seconds of this process, the least of several times."""
    taken = []
    for _ in range(times):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken)


def _given(target: Conformed) -> Conformed:
    return target


def measure(bundle: Bundle, cases: Sequence[Case], counted: Sequence[int]) -> dict[str, Form]:
    """Every form on every scan."""
    own, labelling, classes = Methods(bundle, evaluation_key(0)), Labelling.of(bundle), len(bundle.classes)
    preprocess, segmenter = load_preprocessor(bundle), InProcessSegmenter(bundle.segmenter_path)
    forms: dict[str, Form] = defaultdict(Form)
    layers = {k: layer((1, classes, *bundle.grid_shape), k) for k in (None, *KEPT)}
    modes: tuple[Mode, ...] = (Plain(), Mixup())
    for case in cases:
        scan = load_volume(case.scan)
        target = preprocess(scan, Timings())
        truth = conform_labels(load_volume(case.labels), target.grid, labelling)
        draws = own.draws(content_digest(scan.voxels, scan.affine))
        for mode in modes:
            (request,) = mode.requests(partial(_given, target), draws)
            answer = segmenter.segment(request.image[None])[0]
            shares = with_background(answer)[None].astype(np.float32) / 255
            found = {FULL: answer}
            forms[FULL].size.append(answer.nbytes)
            forms[FULL].server_s.append(seconds(partial(layers[None], shares)))
            forms[FULL].client_s.append(0.0)
            for k in KEPT:
                form, (order, values) = forms[f"the {k} most probable"], kept(answer, k)
                found[f"the {k} most probable"] = spread(order, values, classes)
                form.size.append(order.nbytes + values.nbytes)
                form.server_s.append(seconds(partial(layers[k], shares)))
                form.client_s.append(seconds(partial(spread, order, values, classes)))
            lossless(answer, forms)
            for name, one in found.items():
                probabilities = mode.reveal(target, [one], [request.secret], own.unmixer)
                labels = np.argmax(probabilities, axis=0) * (target.mask != 0)
                pairs = [(labels == label, truth == label) for label in counted]
                dice = [2 * (a & b).sum() / max(1, a.sum() + b.sum()) for a, b in pairs]
                forms[name].dice[mode.name].append(float(np.mean(dice)))
        print(case.name, {name: dict(form.dice) for name, form in forms.items() if form.dice}, file=sys.stderr)
    return forms


def lossless(answer: Answer, forms: dict[str, Form]) -> None:
    """Coding of the full answer, which changes nothing in it."""
    plain = answer.tobytes()
    coders: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
        "full, deflate by ISA-L, level 0": (partial(isal_zlib.compress, level=0), isal_zlib.decompress),
        "full, deflate by ISA-L, level 1": (partial(isal_zlib.compress, level=1), isal_zlib.decompress),
        "full, deflate by zlib, level 1": (partial(zlib.compress, level=1), zlib.decompress),
    }
    for name, (encode, decode) in coders.items():
        coded = encode(plain)
        forms[name].size.append(len(coded))
        forms[name].server_s.append(forms[FULL].server_s[-1] + seconds(partial(encode, plain)))
        forms[name].client_s.append(seconds(partial(decode, coded)))


def table(forms: dict[str, Form]) -> list[str]:
    """As markdown."""
    full = forms[FULL]
    head = "| form | Dice, none | Dice, one mixture | less than full, mixture | MB | server, s | client, s |"
    lines = [f"{head} at 1 Gbit/s, s | at 100 Mbit/s, s |", "|---|---|---|---|---|---|---|---|---|"]
    for name, form in forms.items():
        of = form if form.dice else full
        none, mixed = (np.array(of.dice[mode]) for mode in ("none", "mixup"))
        loss = np.array(full.dice["mixup"]) - mixed
        size, server, client = (float(np.mean(part)) for part in (form.size, form.server_s, form.client_s))
        wire = [server + client + 8 * size / rate for rate in (1e9, 1e8)]
        lines.append(
            f"| {name} | {none.mean():.4f} | {mixed.mean():.4f} | {loss.mean():.4f} | {size / 1e6:.1f} | "
            f"{server:.3f} | {client:.3f} | {wire[0]:.2f} | {wire[1]:.2f} |"
        )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="a shipped name or a folder")
    parser.add_argument("--data", type=Path, required=True, help="BIDS folder with labels")
    parser.add_argument("--subjects", nargs="+", default=[], help="default: all")
    parser.add_argument("-o", "--output", type=Path, required=True, help="markdown file")
    args = parser.parse_args(argv)
    bundle = load_bundle(args.bundle)
    cases = find_heads(args.data, args.subjects, kind_of(bundle))
    counted = bundle.extra["config"]["evaluation"]["counted"]
    forms, people = measure(bundle, cases, counted), len({case.subject for case in cases})
    lines = [
        f"# Forms of an answer: {bundle.name} {bundle.version}",
        "",
        f"{len(cases)} labelled scans of {people} people, each plain and as one mixture. Mean Dice of {len(counted)} "
        "classes in the bundle's grid, sides merged. *Server*: the last layer by OpenVINO on one thread, and coding. "
        "*Client*: back to a full answer, by NumPy. Both are processor seconds. The last two "
        "columns add them to the time of so many bytes on a line of that speed, which is computed.",
        "",
        *table(forms),
        "",
        f"Segmenter fingerprint {bundle.fingerprint[:12]}. Machine: {hardware()}. Commit {commit()}.",
        "",
        f"Made by `python bench/answers.py BUNDLE --data DIR --subjects {' '.join(args.subjects)} "
        f"-o {args.output.name}`.",
    ]
    args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
