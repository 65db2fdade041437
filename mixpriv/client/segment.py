"""From a scan to its segmentation: the one function that reads as the data flow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mixpriv.bundle import Bundle, Strangers
from mixpriv.client.bank import Bank, reference_name
from mixpriv.client.ledger import EMBEDDED, Entry, Ledger, now
from mixpriv.errors import InputError
from mixpriv.imaging.device import CPU, Device
from mixpriv.imaging.preprocess.preprocessor import Conformer, load_conformer
from mixpriv.imaging.resample import Conformed, to_scan
from mixpriv.imaging.volume import Volume
from mixpriv.key import ClientKey, content_digest
from mixpriv.protection.keystream import Stream
from mixpriv.protection.mixing import Unmixer, draw_weight, mix_modalities, straighten, unpack_probabilities
from mixpriv.protection.reference import Reference, ReferenceModel, draw_reference
from mixpriv.protection.warp import Warp, draw_warp
from mixpriv.reid.check import MOST_DRAWS, Recognition
from mixpriv.reid.scan_hash import SAME_SCAN, difference, likeness
from mixpriv.timing import Stages
from mixpriv.wire.transport import Segmenter

MODES = ("local", "shielded", "mixup", "none")
MAX_REFERENCES = 20


@dataclass(frozen=True)
class Options:
    """How a scan is sent.

    ``weight`` fixes the target's share instead of drawing it; for experiments, and with references of their own, since
    a second share of the same reference would let the server subtract it. ``allow_repeat`` sends what the ledger would
    refuse.
    """

    mode: str = "mixup"
    references: int = 1
    from_bank: bool = False
    weight: float | None = None
    allow_repeat: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode: expected one of {', '.join(MODES)}, got {self.mode!r}")
        if not 1 <= self.references <= MAX_REFERENCES:
            raise InputError(f"references: expected 1 to {MAX_REFERENCES}, got {self.references}")
        if self.mode == "shielded" and (self.references > 1 or self.from_bank):
            raise InputError("mode shielded sends one request for a scan: expected no number of references, no bank")
        if not self.mixes and (self.references > 1 or self.from_bank or self.weight is not None):
            what = "sends the brain itself" if self.mode == "none" else "sends nothing"
            raise InputError(f"mode {self.mode} {what}: expected no references and no weight")
        if self.weight is not None and not 0.0 < self.weight < 1.0:
            raise InputError(f"weight: expected a number between 0 and 1, got {self.weight}")

    @property
    def mixes(self) -> bool:
        """Whether mixtures are sent."""
        return self.mode in ("shielded", "mixup")

    @property
    def sends(self) -> bool:
        """Whether anything is sent: in mode local the unmixer does without a server."""
        return self.mode != "local"


@dataclass(frozen=True)
class Client:
    """All that a client needs for scan after scan: made once by `open_client`; no segmenter for mode local."""

    bundle: Bundle
    key: ClientKey
    ledger: Ledger
    segmenter: Segmenter | None
    conformer: Conformer = field(repr=False)
    unmixer: Unmixer = field(repr=False)
    reference_model: ReferenceModel | None = field(repr=False)

    def __post_init__(self) -> None:
        if self.leaves_machine and self.server in ("", EMBEDDED):
            raise InputError(f"segmenter: expected the address of what leaves this machine, got {self.server!r}")

    @property
    def leaves_machine(self) -> bool:
        """Whether what is sent may leave this machine: the segmenter alone knows."""
        return self.segmenter is not None and self.segmenter.leaves_machine

    @property
    def server(self) -> str:
        """What the ledger calls the place where requests go."""
        return EMBEDDED if self.segmenter is None or not self.segmenter.leaves_machine else self.segmenter.address


@dataclass(frozen=True)
class Prepared:
    """A scan as it is before anything is sent of it.

    ``plain`` is the target as mode none sends it, (M, D, H, W). ``reference`` is the first one if it is drawn, None if
    there is none or the bank lends it. In mode shielded there is a ``warp``, and if the bundle knows strangers the
    ``mixture`` with its ``risk``: how many standard deviations more alike than to strangers' scans it is; ``draw``
    counts the mixtures drawn before it. ``likeness``: for the ledger; of mode local, which has no entry there, none.
    """

    scan: Volume
    content: bytes = field(repr=False)
    target: Conformed
    plain: NDArray[np.float16] = field(repr=False)
    reference: Reference | None = field(default=None, repr=False)
    warp: Warp | None = field(default=None, repr=False)
    mixture: NDArray[np.float16] | None = field(default=None, repr=False)
    risk: float | None = None
    draw: int = 0
    likeness: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class View:
    """What crossed the boundary for one reference: mixture (M, D, H, W) float16 out, answer (C-1, D, H, W) uint8 in."""

    mixture: NDArray[np.float16] = field(repr=False)
    answer: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True)
class Segmentation:
    """The result, with what is needed to report on it.

    Attributes
    ----------
    labels : (I, J, K) uint8 in the scan's grid, Fortran order
    probabilities : (C, D, H, W) float32 in the bundle's grid, summed over the references; of the target where its
        mask is, beyond that no label is taken from them
    target : the scan in the bundle's grid; secret
    brain_ml : volume of the extracted brain, None for a crop
    views : all that was sent and received
    risk : of mode shielded, see `Prepared`
    warnings : for the user, one line each
    """

    labels: NDArray[np.uint8] = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    target: Conformed
    brain_ml: float | None
    views: tuple[View, ...]
    warnings: tuple[str, ...]
    risk: float | None = None


def open_client(
    bundle: Bundle,
    key: ClientKey,
    segmenter: Segmenter | None,
    *,
    generator: bool = True,
    device: Device = CPU,
    ledger: Ledger | None = None,
    threads: int | None = None,
) -> Client:
    """Load the client's networks; ``generator=False`` leaves out the reference generator where it is not used.

    The voxel work is done on the ``device``.

    Raises
    ------
    InputError
        a file of the bundle is missing or damaged.
    """
    return Client(
        bundle=bundle,
        key=key,
        ledger=ledger or Ledger(),
        segmenter=segmenter,
        conformer=load_conformer(bundle, device),
        unmixer=Unmixer.of(bundle, threads),
        reference_model=ReferenceModel.of(bundle) if generator else None,
    )


def segment(scan: Volume, client: Client, options: Options, stages: Stages | None = None) -> Segmentation:
    """Segment a scan, showing the server only mixtures of its target with references that nobody else knows.

    Raises
    ------
    InputError
        the scan does not show what the bundle is for, the bundle does not know the mode, not enough references in the
        bank, or the ledger refuses.
    ServerUnavailableError, IncompatibleServerError
        from the segmenter.
    """
    stages = stages or Stages()
    return segment_prepared(prepare(scan, client, options, stages), client, options, stages)


def prepare(scan: Volume, client: Client, options: Options, stages: Stages) -> Prepared:
    """Do what needs no server: the target in the bundle's grid and, meanwhile, the first reference.

    Changes nothing anywhere, and may run in another thread than `segment_prepared` on an earlier scan.
    """
    if options.mode == "shielded" and client.bundle.shielded is None:
        raise InputError(f"bundle {client.bundle.name} has no mode shielded: expected mixup or none")
    if options.mode == "local" and not client.bundle.unmixer_alone:
        raise InputError(f"bundle {client.bundle.name} has no mode local: its unmixer needs a server's answer")
    # The digest and what is drawn from it take one core, and the search for a brain not all of the others.
    with ThreadPoolExecutor(1) as other:
        digest = other.submit(content_digest, scan.voxels, scan.affine)
        drawing = other.submit(lambda: _draw_first(digest.result(), client, options))
        other.submit(lambda: _find_inverse(drawing.result()[1]))
        target = client.conformer(scan, stages)
        with stages("digest"):
            content = digest.result()
        with stages("mix"):
            plain = mix_modalities(target, None, 1.0)
        shielded = client.bundle.shielded if options.mode == "shielded" else None
        strangers = None if shielded is None else shielded.strangers
        spacing_mm = client.bundle.spacing_mm
        known = None if strangers is None else other.submit(Recognition.of, plain, spacing_mm)
        own = other.submit(likeness, plain[0], spacing_mm, client.key) if options.sends else None
        prepared = Prepared(scan, content, target, plain)
        if options.mixes:
            with stages("reference"):
                reference, warp = drawing.result()
            prepared = replace(prepared, reference=reference, warp=warp)
        if known is not None and strangers is not None:
            with stages("risk"):
                prepared = _hidden(prepared, known, strangers, client, options)
        if own is None:
            return prepared
        with stages("digest"):
            return replace(prepared, likeness=own.result())


def _hidden(
    prepared: Prepared, known: Future[Recognition], strangers: Strangers, client: Client, options: Options
) -> Prepared:
    """Draw again until a mixture is not too much like its scan; where none leaves this machine the last will do."""
    content, target = prepared.content, prepared.target
    for draw in range(MOST_DRAWS):
        if draw:
            reference, warp = _draw(content, draw, client, options), _draw_warp(content, draw, client, options)
            prepared = replace(prepared, reference=reference, warp=warp, draw=draw)
        mixture = mix_modalities(target, prepared.reference, _weight(content, 0, client, options), prepared.warp)
        risk = known.result().risk(mixture, strangers)
        prepared = replace(prepared, mixture=mixture, risk=risk)
        if risk <= strangers.limit:
            return prepared
    if not client.leaves_machine:
        return prepared
    raise InputError(
        f"scan: {MOST_DRAWS} mixtures were drawn and each is too much like it (risk {prepared.risk:.1f}, at most "
        f"{strangers.limit:g}): not sent in mode shielded"
    )


def segment_prepared(
    prepared: Prepared,
    client: Client,
    options: Options,
    stages: Stages,
    warn: Callable[[str], None] = lambda warning: None,
) -> Segmentation:
    """Note in the ledger what will be sent, send it, and make labels of the answer; see `segment`.

    In mode local nothing is sent, and nothing noted. ``warn`` hears of what the file and the ledger tell, before that.
    """
    target, plain = prepared.target, prepared.plain
    warnings = prepared.scan.warnings
    views: list[View] = []
    lent: list[Reference] = []
    if options.from_bank:
        with stages("reference"):
            lent = _lend(prepared, client, options)
    if options.mixes and prepared.mixture is None:
        with stages("mix"):
            prepared = replace(prepared, mixture=_first_mixture(prepared, lent, client, options))
    if options.sends:
        with stages("ledger"):
            warnings = (*warnings, *_enter(prepared, client, options))
    for warning in warnings:
        warn(warning)
    if options.mode == "local":
        with stages("unmix"):
            probabilities = client.unmixer.alone(plain)
    elif options.mode == "none":
        view, probabilities = _send_plain(plain, target.device, client, stages)
        views = [view]
    else:
        views, probabilities = _send_mixtures(prepared, lent, client, options, stages)
    with stages("restore"):
        # the client knows where the target ends: what the answer shows beyond is the reference's
        labels = to_scan(probabilities, target.grid, prepared.scan, target.mask, target.device)
    brain_ml = None if client.bundle.crop else target.mask_ml
    return Segmentation(labels, probabilities, target, brain_ml, tuple(views), warnings, prepared.risk)


def _send_plain(
    plain: NDArray[np.float16], device: Device, client: Client, stages: Stages
) -> tuple[View, NDArray[np.float32]]:
    with stages("server"):
        answer = _ask(client, plain)
    with stages("unmix"):
        probabilities = unpack_probabilities(answer, device)
    return View(plain, answer), probabilities


def _send_mixtures(
    prepared: Prepared, lent: Sequence[Reference], client: Client, options: Options, stages: Stages
) -> tuple[list[View], NDArray[np.float32]]:
    warp = prepared.warp
    views: list[View] = []
    total: NDArray[np.float32] | None = None
    with closing(_references(prepared, lent, client, options)) as references:
        for index in range(options.references):
            with stages("reference"):
                reference = next(references)
                weight = _weight(prepared.content, index, client, options)
            mixture = prepared.mixture if index == 0 else None
            if mixture is None:
                with stages("mix"):
                    mixture = mix_modalities(prepared.target, reference, weight, warp)
            with stages("server"):
                answer = _ask(client, mixture)
            with stages("unmix"):
                straight = answer if warp is None else straighten(answer, warp)
                total = client.unmixer(
                    straight, reference.labels, weight, prepared.plain, prepared.target.device, total
                )
            views.append(View(mixture, answer))
    assert total is not None  # noqa: S101 - Options ask for at least one
    return views, total


def _ask(client: Client, image: NDArray[np.float16]) -> NDArray[np.uint8]:
    assert client.segmenter is not None  # noqa: S101 - only mode local has none
    answer: NDArray[np.uint8] = client.segmenter.segment(image[None])[0]
    return answer


def _weight(content: bytes, index: int, client: Client, options: Options) -> float:
    """The target's share in mixture number ``index``."""
    if options.weight is not None:
        return options.weight
    bundle = client.bundle
    weight_range = bundle.weight_range
    if options.mode == "shielded" and bundle.shielded is not None:
        weight_range = bundle.shielded.weight_range
    return draw_weight(client.key.derive(f"weight/{_purpose(bundle, options)}", content, index), weight_range)


def _purpose(bundle: Bundle, options: Options) -> str:
    """Say what a seed is for: another network or a fixed weight gets other references.

    Two shares of one scan with one reference are two equations with two unknowns.
    """
    shielded = bundle.shielded if options.mode == "shielded" else None
    weight_range = bundle.weight_range if shielded is None else shielded.weight_range
    bent = "" if shielded is None else f"/{shielded.warp_mm} mm"
    return f"{options.mode}/{bundle.fingerprint}/{options.weight or weight_range}{bent}"


def _references(
    prepared: Prepared, lent: Sequence[Reference], client: Client, options: Options
) -> Generator[Reference, None, None]:
    """The scan's references in order; those of the generator are drawn while the server answers the one before."""
    if prepared.reference is None:
        yield from lent
        return
    reference = prepared.reference
    with ThreadPoolExecutor(1) as other:
        for index in range(1, options.references):
            drawing = other.submit(_draw, prepared.content, index, client, options)
            yield reference
            reference = drawing.result()
    yield reference


def _lend(prepared: Prepared, client: Client, options: Options) -> list[Reference]:
    """References of the bank, none of them the scan itself nor like it: mixed with such a one it would lie bare."""
    bank = Bank.of(client.bundle)
    use = client.key.derive(f"bank/{_purpose(client.bundle, options)}", prepared.content)
    names = [name for name in bank.names() if name != reference_name(client.key, prepared.content)]
    if client.bundle.crop is None:  # how alike two people's crops are was not measured
        spacing_mm, own = client.bundle.spacing_mm, prepared.likeness
        looks = {name: likeness(bank.load(name).image.astype(np.float16), spacing_mm, client.key) for name in names}
        names = [name for name in names if difference(looks[name], own) >= SAME_SCAN]
    return [bank.load(name) for name in client.ledger.spend(use, names, options.references)]


def _first_mixture(
    prepared: Prepared, lent: Sequence[Reference], client: Client, options: Options
) -> NDArray[np.float16]:
    reference = prepared.reference or lent[0]
    weight = _weight(prepared.content, 0, client, options)
    return mix_modalities(prepared.target, reference, weight, prepared.warp)


def _draw(content: bytes, index: int, client: Client, options: Options) -> Reference:
    if client.reference_model is None:
        raise InputError("reference generator: expected it to be loaded for references of mode mixup")
    seed = client.key.derive(f"reference/{_purpose(client.bundle, options)}", content, index)
    return draw_reference(client.reference_model, Stream(seed))


def _draw_first(content: bytes, client: Client, options: Options) -> tuple[Reference | None, Warp | None]:
    """What is drawn before anything is sent."""
    drawn = options.mixes and not options.from_bank
    return _draw(content, 0, client, options) if drawn else None, _draw_warp(content, 0, client, options)


def _find_inverse(warp: Warp | None) -> None:
    """Find the way back of the first draw now; of a later one, which is rare, it is found when the answer is there."""
    if warp is not None:
        _ = warp.inverse


def _draw_warp(content: bytes, index: int, client: Client, options: Options) -> Warp | None:
    bundle = client.bundle
    if options.mode != "shielded" or bundle.shielded is None:
        return None
    seed = client.key.derive(f"warp/{_purpose(bundle, options)}", content, index)
    return draw_warp(Stream(seed), bundle.grid_shape, bundle.shielded.warp_mm, bundle.spacing_mm)


def _enter(prepared: Prepared, client: Client, options: Options) -> tuple[str, ...]:
    """Note in the ledger what is about to be sent; warn if another file of this scan went to a server before."""
    sent = prepared.plain if prepared.mixture is None else prepared.mixture
    entry = Entry(
        time=now(),
        server=client.server,
        bundle=f"{client.bundle.name} {client.bundle.version}",
        mode=options.mode,
        views=options.references,
        content=client.key.derive("ledger", prepared.content),
        likeness=prepared.likeness,
        client=client.key.derive("ledger/client")[:8],
        # what is sent first, and not how it is made: an update or another processor may make other bytes of the scan
        view=client.key.derive("ledger/view", hashlib.sha256(sent.tobytes()).digest()),
    )
    copies = [e for e in client.ledger.enter(entry, allow_repeat=options.allow_repeat) if _is_copy(e, entry)]
    if not copies:
        return ()
    return (
        f"looks like another copy of a scan, or another scan of a person, sent on {copies[-1].time} "
        f"(mode {copies[-1].mode}): together they tell a server more",
    )


def _is_copy(earlier: Entry, entry: Entry) -> bool:
    """Whether both left this machine, as different content that looks the same."""
    if not (earlier.left_machine and entry.left_machine) or earlier.content == entry.content:
        return False
    return difference(earlier.likeness, entry.likeness) < SAME_SCAN
