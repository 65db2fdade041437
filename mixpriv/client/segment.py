"""From a scan to its segmentation: preprocess, note in the ledger, send each request, reveal, restore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from mixpriv.client.noting import note
from mixpriv.client.pipeline import Pipeline
from mixpriv.client.restore import merged, restore
from mixpriv.client.segmentation import Attempt, Exchange, Segmentation
from mixpriv.errors import InputError
from mixpriv.imaging.resample import Conformed
from mixpriv.imaging.volume import Volume
from mixpriv.key import content_digest
from mixpriv.protection.mixing import normalised
from mixpriv.protection.modes import Answer, Protected
from mixpriv.quality.check import Check, require_fit
from mixpriv.reid.scan_hash import scan_hash
from mixpriv.timing import Timings


@dataclass(frozen=True)
class Prepared:
    """A scan before anything is sent of it, found fit: its first request is made, further ones are made on demand."""

    scan: Volume
    content: bytes = field(repr=False)
    conformed: Conformed
    checks: tuple[Check, ...]
    first: Protected | None
    further: Iterator[Protected] = field(repr=False)
    scan_hash: bytes = field(repr=False)


def segment(scan: Volume, pipeline: Pipeline, timings: Timings | None = None, age: float | None = None) -> Segmentation:
    """Segment a scan of a person of an age, years; the server sees only what the mode sends.

    Raises
    ------
    InputError
        the scan does not show what the bundle is for (`UnfitScanError` if a check says so), not enough references in
        the bank, or the ledger refuses.
    ServerUnavailableError, IncompatibleServerError
        from the segmenter.
    """
    timings = timings or Timings()
    return finish(prepare(scan, pipeline, timings), pipeline, timings, age=age)


def prepare(scan: Volume, pipeline: Pipeline, timings: Timings) -> Prepared:
    """Do what needs no server: bring the scan into the bundle's grid, check it, and meanwhile draw its first request.

    Sends nothing, and may run in another thread than `finish` on an earlier scan.
    """
    mode = pipeline.mode
    conformed: Future[Conformed] = Future()

    def begin() -> tuple[bytes, Protected | None, Iterator[Protected]]:
        content = content_digest(scan.voxels, scan.affine)
        requests = mode.requests(conformed.result, pipeline.draws(content))
        return content, next(requests, None), requests

    with ThreadPoolExecutor(1) as other:  # the search for a brain leaves a core idle
        begun = other.submit(begin)
        try:
            conformed.set_result(pipeline.preprocess(scan, timings))
        except BaseException as error:
            conformed.set_exception(error)
            raise
        target = conformed.result()
        with timings("check"):
            checks = pipeline.check(scan, target)
        if pipeline.leaves_machine:
            require_fit(scan.name, checks, pipeline.send_anyway)
        hashed = b""
        with timings("protect"):
            if pipeline.ledger is not None and mode.count:
                hashed = scan_hash(normalised(target)[0], pipeline.bundle.spacing_mm, pipeline.key)
            content, first, further = begun.result()
    return Prepared(scan, content, target, checks, first, further, hashed)


def finish(
    prepared: Prepared,
    pipeline: Pipeline,
    timings: Timings,
    warn: Callable[[str], None] = lambda warning: None,
    keep: Callable[[Attempt], None] = lambda attempt: None,
    age: float | None = None,
) -> Segmentation:
    """Note in the ledger what will be sent, send it, and make labels of the answers; see `segment`.

    ``warn`` hears of what file and ledger tell before anything is sent, and of failed checks of the result; ``keep`` of
    each request that was tried, also of one that failed.
    """
    conformed, request = prepared.conformed, prepared.first
    warnings = (*prepared.scan.warnings, *(check.words for check in prepared.checks if check.failed))
    if request is not None:
        _require_allowed(request, pipeline)
        if pipeline.ledger is not None:
            with timings("ledger"):
                warnings = (*warnings, *note(prepared.content, prepared.scan_hash, request.image, pipeline))
    for warning in warnings:
        warn(warning)
    exchanges: list[Exchange] = []
    requests: list[Protected] = []
    with ThreadPoolExecutor(1) as other:
        while request is not None:
            following = other.submit(next, prepared.further, None)  # drawn while the server works
            with timings("server"):
                exchanges.append(Exchange(request.image, _ask(request, len(exchanges), pipeline, keep)))
            requests.append(request)
            with timings("protect"):
                request = following.result()
    with timings("reveal"):
        answers, secrets = [e.received for e in exchanges], [r.secret for r in requests]
        found, each = pipeline.reveal(conformed, answers, secrets)
        probabilities = merged(found, pipeline.labelling)
    with timings("restore"):
        labels = restore(probabilities, conformed, prepared.scan, pipeline.labelling)
    with timings("check"):
        findings = pipeline.check_result(found, conformed, labels, prepared.scan.spacing_mm, each, age)
    for warning in findings.warnings:
        warn(warning)
    brain_ml = None if pipeline.bundle.crop else conformed.mask_ml
    risk = max((r.risk for r in requests if r.risk is not None), default=None)
    return Segmentation(
        labels=labels,
        labelling=pipeline.labelling,
        bundle=pipeline.bundle,
        scan=prepared.scan,
        probabilities=probabilities,
        conformed=conformed,
        brain_ml=brain_ml,
        server=pipeline.segmenter.address or None if exchanges and pipeline.segmenter else None,
        exchanges=tuple(exchanges),
        warnings=(*warnings, *findings.warnings),
        checks=(*prepared.checks, *findings.checks),
        flags=pipeline.labelling.by_value(findings.flags),
        risk=risk,
    )


def _ask(request: Protected, number: int, pipeline: Pipeline, keep: Callable[[Attempt], None]) -> Answer:
    segmenter = pipeline.recipient(number)
    _require_allowed(request, pipeline)
    answer: Answer | None = None
    before = segmenter.deliveries
    try:
        answer = segmenter.segment(request.image[None])[0]
        return answer
    finally:
        now_sent = segmenter.deliveries
        deliveries = () if now_sent is before else tuple(now_sent)  # a signal may come before anything is sent
        keep(Attempt(request.image, request.risk is not None, request.refusal, deliveries, answer))


def _require_allowed(request: Protected, pipeline: Pipeline) -> None:
    """Refuse to send what the mode says must not leave this machine."""
    if request.refusal and pipeline.leaves_machine:
        raise InputError(request.refusal)
