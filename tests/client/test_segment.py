from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.client.pipeline import Pipeline
from mixpriv.client.segment import finish, prepare, segment
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.errors import InputError, ServerUnavailableError
from mixpriv.imaging.resample import Conformed, to_scan
from mixpriv.imaging.volume import Volume
from mixpriv.key import ClientKey
from mixpriv.protection.mixing import mix
from mixpriv.protection.modes import Local, Mixup, Mode, Plain, Shielded, named
from mixpriv.protection.reference import Reference
from mixpriv.protection.unmixing import LocalNetwork
from mixpriv.protection.warp import Warp
from mixpriv.timing import Timings
from tests.support.phantom import brain_scan
from tests.support.pipelines import Elsewhere, using

PLAIN = Plain()


def dice(one: NDArray[np.uint8], other: NDArray[np.uint8], value: int) -> float:
    return float(2 * ((one == value) & (other == value)).sum() / ((one == value).sum() + (other == value).sum()))


def touched(scan: Volume) -> Volume:
    """The scan with one voxel of the brain changed by the least."""
    voxels = scan.voxels.copy(order="F")
    voxels[30, 36, 30] = np.nextafter(voxels[30, 36, 30], np.float32(np.inf))
    return replace(scan, voxels=voxels)


class Recording(Elsewhere):
    """The bundle's segmenter in this process, remembering what it was shown."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(InProcessSegmenter(bundle.segmenter_path), "embedded", leaves_machine=False)


def remote(pipeline: Pipeline) -> Pipeline:
    """The same with a segmenter on another machine."""
    assert pipeline.segmenter is not None
    return replace(pipeline, segmenter=Elsewhere(pipeline.segmenter))


Mixed = tuple[Reference | None, float]


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> list[Mixed]:
    """The references and weights of the mixtures that were made, which nothing else ever shows."""
    seen: list[Mixed] = []

    def spy(
        target: Conformed, reference: Reference | None, weight: float, warp: Warp | None = None
    ) -> NDArray[np.float16]:
        if reference is not None:
            seen.append((reference, weight))
        return mix(target, reference, weight, warp)

    monkeypatch.setattr("mixpriv.protection.modes.mix", spy)
    monkeypatch.setattr("mixpriv.client.segment.note", lambda *arguments: ())
    return seen


class TestModes:
    @pytest.mark.parametrize(
        ("mode", "bar"),
        [
            (PLAIN, 0.9),
            (Mixup(0.7), 0.7),
            (Mixup(0.7, references=3), 0.7),
            (Shielded(0.7), 0.65),
        ],
    )
    def test_the_tissues_are_found(self, mode: Mode, bar: float, pipeline: Pipeline) -> None:
        scan, truth = brain_scan()
        result = segment(scan, using(pipeline, mode))
        assert dice(result.labels, truth, 1) > bar
        assert result.labels.shape == scan.voxels.shape
        assert len(result.exchanges) == mode.count

    def test_more_references_average(self, pipeline: Pipeline) -> None:
        scan, _ = brain_scan()
        result = segment(scan, using(pipeline, Mixup(references=3)))
        inside = result.conformed.mask > 0
        np.testing.assert_allclose(result.probabilities.sum(axis=0)[inside], 3, atol=1e-3)
        assert len({exchange.sent.tobytes() for exchange in result.exchanges}) == 3

    def test_no_label_outside_the_brain(self, pipeline: Pipeline) -> None:
        scan, _ = brain_scan()
        result = segment(scan, using(pipeline, Mixup(0.3)))
        mask = result.conformed.mask.astype(np.float32)
        reach = to_scan(np.stack([np.zeros_like(mask), mask]), result.conformed.grid, scan)
        assert result.labels.any()
        assert not result.labels[reach == 0].any()

    def test_stages_are_timed(self, pipeline: Pipeline) -> None:
        told: list[str] = []
        timings = Timings(told.append)
        segment(brain_scan()[0], using(pipeline, Mixup()), timings)
        stages = ["extract", "conform", "check", "protect", "ledger", "server", "reveal", "restore"]
        assert list(timings.seconds) == stages
        assert told == [*stages[:-2], "protect", *stages[-2:], "check"]

    def test_the_scan_is_untouched(self, pipeline: Pipeline) -> None:
        scan, _ = brain_scan()
        before = scan.voxels.copy()
        segment(scan, using(pipeline, Mixup()))
        np.testing.assert_array_equal(scan.voxels, before)

    @pytest.mark.parametrize(
        ("mode", "message"),
        [
            ({"name": "shielded", "references": 2}, "mode shielded sends one request for a scan: expected no number"),
            (
                {"name": "shielded", "source": "bank"},
                "mode shielded sends one request .* no bank",
            ),
            ({"name": "plain"}, "mode: expected one of local, shielded, mixup, none, got 'plain'"),
            ({"name": "local", "references": 2}, "mode local sends nothing: expected no references"),
            ({"name": "local", "weights": 0.5}, "mode local sends nothing: expected no references and no weight"),
            ({"references": 0}, "references: expected 1 to 20, got 0"),
            ({"references": 21}, "references: expected 1 to 20, got 21"),
            ({"name": "none", "references": 2}, "mode none sends the brain itself: expected no references"),
            ({"name": "none", "weights": 0.5}, "mode none sends the brain itself"),
            ({"weights": 0.0}, "weight: expected a number between 0 and 1 .*, got 0.0"),
            ({"weights": float("nan")}, "weight: expected a number between 0 and 1 .*, got nan"),
        ],
    )
    def test_options_that_make_no_sense(self, mode: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            named(**{"name": "mixup", **mode})


class TestLocal:
    """The unmixer without a server."""

    @staticmethod
    def alone(pipeline: Pipeline, found: list[dict[str, NDArray[np.float32]]]) -> Pipeline:
        """A pipeline without a server, whose unmixer calls all that it sees grey matter."""

        def network(**inputs: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            found.append(inputs)
            d, h, w = (n // 2 for n in inputs["target"].shape[2:])
            blocks = inputs["target"].reshape(d, 2, h, 2, w, 2).transpose(1, 3, 5, 0, 2, 4).reshape(8, d, h, w)
            grey = np.where(blocks > 0, np.float32(40), np.float32(-40))
            return {"correction": np.concatenate([0 * grey, 0 * grey - 80, grey, *[0 * grey - 80] * 3])[None]}

        bundle = replace(pipeline.bundle, unmixer_sees_target=True, unmixer_alone=True)
        local = LocalNetwork(network, len(bundle.classes), unmixes=True)
        return replace(pipeline, bundle=bundle, network=local, segmenter=None)

    def test_nothing_is_sent_and_nothing_noted(self, pipeline: Pipeline) -> None:
        found: list[dict[str, NDArray[np.float32]]] = []
        scan, _ = brain_scan()
        result = segment(scan, using(self.alone(pipeline, found), Local()))
        sent = segment(scan, using(pipeline, PLAIN)).exchanges[0].sent
        assert result.exchanges == ()
        assert len(pipeline.ledger.entries()) == 1, "of mode none alone"
        assert set(np.unique(result.labels)) == {0, 2}
        (inputs,) = found
        np.testing.assert_array_equal(inputs["target"][0], sent.astype(np.float32))
        assert not inputs["unmixer_input"].any()

    def test_an_unmixer_that_needs_an_answer_is_refused(self, pipeline: Pipeline) -> None:
        with pytest.raises(InputError, match="bundle toy-t1 has no mode local: its unmixer needs a server's answer"):
            segment(brain_scan()[0], using(pipeline, Local()))


class TestWhatIsSent:
    """What the server is shown, and that it learns nothing from seeing a scan twice."""

    @pytest.mark.parametrize("mode", [PLAIN, Mixup(references=2), Shielded()])
    def test_two_runs_are_the_same_bytes(self, mode: Mode, pipeline: Pipeline) -> None:
        scan, _ = brain_scan()
        first, second = (segment(scan, using(pipeline, mode)) for _ in range(2))
        assert [v.sent.tobytes() for v in first.exchanges] == [v.sent.tobytes() for v in second.exchanges]
        np.testing.assert_array_equal(first.labels, second.labels)

    def test_shielded_is_bent_and_shares_no_reference_with_mixup(self, pipeline: Pipeline) -> None:
        scan, _ = brain_scan()
        shielded, mixup = (
            segment(scan, using(pipeline, named(mode, weights=0.3))).exchanges[0] for mode in ("shielded", "mixup")
        )
        outside = segment(scan, using(pipeline, PLAIN)).exchanges[0].sent == 0
        assert not np.array_equal(shielded.sent, mixup.sent)
        assert (shielded.sent[outside] > 0).sum() > (mixup.sent[outside] > 0).sum()

    def test_a_bundle_without_the_mode_says_so(self, pipeline: Pipeline, bundle: Bundle) -> None:
        without = replace(pipeline, bundle=replace(bundle, shielded=None))
        with pytest.raises(InputError, match="bundle toy-t1 has no mode shielded: expected mixup or none"):
            segment(brain_scan()[0], using(without, Shielded()))

    def test_more_references_begin_with_the_same(self, pipeline: Pipeline) -> None:
        scan, _ = brain_scan()
        one, two = (segment(scan, using(pipeline, Mixup(references=k))) for k in (1, 2))
        np.testing.assert_array_equal(one.exchanges[0].sent, two.exchanges[0].sent)

    @pytest.mark.parametrize("what", ["voxel", "key", "fixed weight", "bundle"])
    def test_another_reference_and_weight_for_another(
        self, what: str, mixed: list[Mixed], pipeline: Pipeline, bundle: Bundle
    ) -> None:
        """Never only another weight: one reference in two shares could be subtracted."""
        scan, mode = brain_scan()[0], Mixup()
        segment(scan, using(pipeline, mode))
        if what == "voxel":
            scan = touched(scan)
        elif what == "key":
            pipeline = replace(pipeline, key=ClientKey(bytes(32)))
        elif what == "fixed weight":
            mode = Mixup(0.5)
        else:
            pipeline = replace(pipeline, bundle=replace(bundle, fingerprint="0" * 64))
        segment(scan, using(pipeline, mode))
        (first, first_weight), (second, second_weight) = mixed
        assert first is not None
        assert second is not None
        assert (first.labels != second.labels).mean() > 0.05
        assert abs(first_weight - second_weight) > 1e-4

    @pytest.mark.parametrize("mode", [PLAIN, Mixup(), Mixup(0.9, references=2)])
    def test_nothing_outside_the_two_brains(
        self, mode: Mode, mixed: list[Mixed], pipeline: Pipeline, bundle: Bundle
    ) -> None:
        """Face and skull of the scan leave no trace, however bright."""
        scan, _ = brain_scan()
        voxels = scan.voxels.copy(order="F")
        voxels[2:10, 60:70, 2:50] = 880.0  # a piece of skull, away from the brain
        recording = Recording(bundle)
        target = segment(replace(scan, voxels=voxels), using(replace(pipeline, segmenter=recording), mode)).conformed
        assert target.image[target.mask == 0].max() > 800
        sent = [(None, 1.0)] if mode == PLAIN else mixed
        for mixture, (reference, _) in zip(recording.seen, sent, strict=True):
            union = target.mask if reference is None else target.mask | reference.mask
            assert mixture.dtype == np.float16
            assert mixture.shape == (1, 1, *bundle.grid_shape)
            assert not mixture[0, 0][union == 0].any()

    def test_what_is_kept_of_it_is_what_was_sent(self, pipeline: Pipeline, bundle: Bundle) -> None:
        recording = Recording(bundle)
        result = segment(brain_scan()[0], using(replace(pipeline, segmenter=recording), Mixup(references=2)))
        for exchange, seen in zip(result.exchanges, recording.seen, strict=True):
            np.testing.assert_array_equal(exchange.sent, seen[0])

    def test_no_secret_in_reprs(self, pipeline: Pipeline) -> None:
        result = segment(brain_scan()[0], using(pipeline, Mixup()))
        assert "array" not in repr(result)
        assert "seed" not in repr(pipeline)
        assert json.dumps(repr(pipeline.key)) == '"ClientKey(secret)"'


class TestLedger:
    def test_every_send_is_entered_before_it_happens(self, pipeline: Pipeline) -> None:
        class Broken:
            address, leaves_machine, deliveries = "host:1", True, ()

            def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
                raise ServerUnavailableError("server gone")

        with pytest.raises(ServerUnavailableError, match="server gone"):
            segment(brain_scan()[0], using(replace(pipeline, segmenter=Broken()), Mixup(references=2)))
        (entry,) = pipeline.ledger.entries()
        assert (entry.server, entry.mode, entry.requests, entry.bundle) == ("host:1", "mixup", 2, "toy-t1 0.1.0")

    def test_a_copy_of_a_scan_is_told_but_not_the_scan_itself(self, pipeline: Pipeline) -> None:
        scan, _ = brain_scan()
        sending = using(remote(pipeline), Mixup())
        assert segment(scan, sending).warnings == ()
        assert segment(scan, sending).warnings == ()
        flipped = np.diag([-1.0, 1, 1, 1])
        flipped[0, 3] = scan.voxels.shape[0] - 1
        copy = replace(scan, voxels=np.asfortranarray(scan.voxels[::-1] * 2), affine=scan.affine @ flipped)
        (warning,) = segment(copy, sending).warnings
        assert warning.startswith("looks like another copy of a scan, or another scan of a person, sent on 2")

    def test_what_stays_on_this_machine_is_no_reason_to_warn(self, pipeline: Pipeline) -> None:
        scan, _ = brain_scan()
        segment(scan, using(pipeline, Mixup()))
        assert segment(touched(scan), using(pipeline, Mixup())).warnings == ()
        assert segment(touched(scan), using(remote(pipeline), Mixup())).warnings == ()

    def test_what_was_odd_about_the_file_is_told_in_every_mode(self, pipeline: Pipeline) -> None:
        scan = replace(brain_scan()[0], warnings=("pixdim is negative",))
        heard: list[str] = []
        prepared = prepare(scan, pipeline, Timings())
        assert finish(prepared, pipeline, Timings(), heard.append).warnings == ("pixdim is negative",)
        assert heard == ["pixdim is negative"]
        assert segment(scan, using(TestLocal().alone(pipeline, []), Local())).warnings == ("pixdim is negative",)
