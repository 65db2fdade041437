"""What a client loads once for scan after scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mixpriv.bundle import Bundle
from mixpriv.bundle_fields import CHECKS_BEFORE
from mixpriv.client.bank import Bank
from mixpriv.client.entry import EMBEDDED
from mixpriv.client.ledger import Ledger
from mixpriv.errors import InputError
from mixpriv.imaging.device import CPU, Device
from mixpriv.imaging.preprocess.preprocessor import Preprocessor, load_preprocessor
from mixpriv.imaging.resample import Conformed
from mixpriv.key import ClientKey
from mixpriv.labels import Labelling
from mixpriv.protection.draws import KeyedDraws
from mixpriv.protection.mixing import normalised
from mixpriv.protection.modes import Answer, ClientNetwork, Mode, Probabilities, Secret
from mixpriv.protection.reference import Reference, ReferenceModel
from mixpriv.protection.unmixing import LocalNetwork, Unmixer
from mixpriv.quality.after import ResultChecker
from mixpriv.quality.before import CheckScan, scan_checker
from mixpriv.quality.check import require_names
from mixpriv.quality.signs import Labels, References
from mixpriv.wire.spread import Spread
from mixpriv.wire.transport import Segmenter


@dataclass(frozen=True)
class Pipeline:
    """All that is loaded once for scan after scan; no segmenter for a mode that sends nothing.

    ``tissues``: whether the classes are merged to the bundle's tissues.
    """

    bundle: Bundle
    mode: Mode
    key: ClientKey
    ledger: Ledger | None
    segmenter: Segmenter | Spread | None
    preprocess: Preprocessor = field(repr=False)
    check: CheckScan = field(repr=False)
    check_result: ResultChecker = field(repr=False)
    network: ClientNetwork | None = field(repr=False)
    reference_model: ReferenceModel | None = field(repr=False)
    allow_repeat: bool = False
    send_anyway: tuple[str, ...] = ()
    tissues: bool = False

    def __post_init__(self) -> None:
        if self.leaves_machine and self.ledger is None:
            raise ValueError("ledger: expected one, since what is sent leaves this machine")
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

    def recipient(self, number: int) -> Segmenter:
        """Who gets a scan's request of this number, from 0."""
        if self.segmenter is None:
            raise ValueError("segmenter: expected one in a mode that sends")
        return self.segmenter.recipient(number) if isinstance(self.segmenter, Spread) else self.segmenter

    @property
    def labelling(self) -> Labelling:
        """What the values of a segmentation mean."""
        return Labelling.of(self.bundle, tissues=self.tissues)

    def reveal(
        self, conformed: Conformed, answers: Sequence[Answer], secrets: Sequence[Secret]
    ) -> tuple[Probabilities, list[Labels]]:
        """Find the class probabilities in the answers, and what each of several references says by itself."""
        each, network = References(), self.network
        if isinstance(network, Unmixer) and len(answers) > 1:
            network = network.watched(each)
        return self.mode.reveal(conformed, answers, secrets, network), each.labels

    def draws(self, content: bytes) -> KeyedDraws:
        """What can be drawn for the scan with a content digest."""
        return KeyedDraws(self.bundle, self.key, content, self.reference_model, self._lend(content))

    def _lend(self, content: bytes) -> Callable[[str, Conformed, int], Sequence[Reference]]:
        """Mark references of the user's bank as used for this scan and give them."""

        def lend(purpose: str, scan: Conformed, count: int) -> list[Reference]:
            bank = Bank.of(self.bundle)
            names = bank.other_than(content, normalised(scan), self.bundle, self.key)
            if self.ledger is None:
                raise ValueError("ledger: expected one where references are lent")
            used = self.ledger.spend(self.key.derive(purpose, content), names, count)
            return [bank.load(name) for name in used]

        return lend


def open_pipeline(
    bundle: Bundle,
    mode: Mode,
    key: ClientKey,
    segmenter: Segmenter | Spread | None,
    *,
    device: Device = CPU,
    noted: bool = True,
    threads: int | None = None,
    allow_repeat: bool = False,
    send_anyway: Sequence[str] = (),
    tissues: bool = False,
) -> Pipeline:
    """Load the client's networks; the voxel work is done on the ``device``.

    What is sent is ``noted`` in the user's ledger; only what a network in this process sees may go without. A failed
    check that is named in ``send_anyway`` keeps nothing from being sent.

    Raises
    ------
    InputError
        the bundle does not know the mode or has no tissues, or a file of it is missing or damaged.
    """
    mode.require(bundle)
    Labelling.of(bundle, tissues=tissues)
    return Pipeline(
        bundle=bundle,
        mode=mode,
        key=key,
        ledger=Ledger() if noted else None,
        segmenter=segmenter,
        preprocess=load_preprocessor(bundle, device),
        check=scan_checker(bundle),
        check_result=ResultChecker.of(bundle),
        network=_network(bundle, mode, threads),
        reference_model=ReferenceModel.of(bundle) if mode.unmixes else None,
        allow_repeat=allow_repeat,
        send_anyway=require_names(send_anyway, CHECKS_BEFORE),
        tissues=tissues,
    )


def _network(bundle: Bundle, mode: Mode, threads: int | None) -> ClientNetwork | None:
    if mode.unmixes:
        return Unmixer.of(bundle, threads)
    return None if mode.count else LocalNetwork.of(bundle, threads)  # what is sent nowhere is segmented here
