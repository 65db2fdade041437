from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mixpriv.bundle import Bundle
from mixpriv.client.segment import Client, Options, prepare, segment, segment_prepared
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.errors import InputError, ServerUnavailableError
from mixpriv.imaging.resample import Conformed, to_scan
from mixpriv.imaging.volume import Volume
from mixpriv.key import ClientKey
from mixpriv.protection.mixing import Unmixer, mix_modalities
from mixpriv.protection.reference import Reference
from mixpriv.protection.warp import Warp
from mixpriv.timing import Stages
from tests.support.phantom import brain_scan
from tests.support.remote import RemoteSegmenter

PLAIN = Options("none")


def dice(one: NDArray[np.uint8], other: NDArray[np.uint8], value: int) -> float:
    return float(2 * ((one == value) & (other == value)).sum() / ((one == value).sum() + (other == value).sum()))


def touched(scan: Volume) -> Volume:
    """The scan with one voxel of the brain changed by the least."""
    voxels = scan.voxels.copy(order="F")
    voxels[30, 36, 30] = np.nextafter(voxels[30, 36, 30], np.float32(np.inf))
    return replace(scan, voxels=voxels)


class Recording:
    """A segmenter that remembers what it was shown."""

    leaves_machine, address = False, "this process"

    def __init__(self, bundle: Bundle) -> None:
        self._segmenter = InProcessSegmenter(bundle.segmenter_path)
        self.seen: list[NDArray[np.float16]] = []

    def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
        self.seen.append(mixture)
        return self._segmenter.segment(mixture)


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
        return mix_modalities(target, reference, weight, warp)

    monkeypatch.setattr("mixpriv.client.segment.mix_modalities", spy)
    monkeypatch.setattr("mixpriv.client.segment._enter", lambda *arguments: ())
    return seen


class TestModes:
    @pytest.mark.parametrize(
        ("options", "bar"),
        [
            (PLAIN, 0.9),
            (Options(weight=0.7), 0.7),
            (Options(references=3, weight=0.7), 0.7),
            (Options("shielded", weight=0.7), 0.65),
        ],
    )
    def test_the_tissues_are_found(self, options: Options, bar: float, client: Client) -> None:
        scan, truth = brain_scan()
        result = segment(scan, client, options)
        assert dice(result.labels, truth, 1) > bar
        assert result.labels.shape == scan.voxels.shape
        assert len(result.views) == options.references

    def test_more_references_average(self, client: Client) -> None:
        scan, _ = brain_scan()
        result = segment(scan, client, Options(references=3))
        inside = result.target.mask > 0
        np.testing.assert_allclose(result.probabilities.sum(axis=0)[inside], 3, atol=1e-3)
        assert len({view.mixture.tobytes() for view in result.views}) == 3

    def test_no_label_outside_the_brain(self, client: Client) -> None:
        scan, _ = brain_scan()
        result = segment(scan, client, Options(weight=0.3))
        mask = result.target.mask.astype(np.float32)
        reach = to_scan(np.stack([np.zeros_like(mask), mask]), result.target.grid, scan)
        assert result.labels.any()
        assert not result.labels[reach == 0].any()

    def test_stages_are_timed(self, client: Client) -> None:
        told: list[str] = []
        stages = Stages(told.append)
        segment(brain_scan()[0], client, Options(), stages)
        before, after = ["extract", "conform", "digest", "mix", "reference", "ledger"], ["server", "unmix", "restore"]
        assert list(stages.seconds) == [*before, *after]
        assert told == [*before[:-1], "digest", "mix", "ledger", "reference", *after]

    def test_the_scan_is_untouched(self, client: Client) -> None:
        scan, _ = brain_scan()
        before = scan.voxels.copy()
        segment(scan, client, Options())
        np.testing.assert_array_equal(scan.voxels, before)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"mode": "shielded", "references": 2}, "mode shielded sends one request for a scan: expected no number"),
            (
                {"mode": "shielded", "from_bank": True},
                "mode shielded sends one request .* no bank",
            ),
            ({"mode": "plain"}, "mode: expected one of local, shielded, mixup, none, got 'plain'"),
            ({"mode": "local", "references": 2}, "mode local sends nothing: expected no references"),
            ({"mode": "local", "weight": 0.5}, "mode local sends nothing: expected no references and no weight"),
            ({"references": 0}, "references: expected 1 to 20, got 0"),
            ({"references": 21}, "references: expected 1 to 20, got 21"),
            ({"mode": "none", "references": 2}, "mode none sends the brain itself: expected no references"),
            ({"mode": "none", "weight": 0.5}, "mode none sends the brain itself"),
            ({"weight": 0.0}, "weight: expected a number between 0 and 1, got 0.0"),
            ({"weight": float("nan")}, "weight: expected a number between 0 and 1, got nan"),
        ],
    )
    def test_options_that_make_no_sense(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(InputError, match=message):
            Options(**options)  # type: ignore[arg-type]


class TestLocal:
    """The unmixer without a server."""

    @staticmethod
    def alone(client: Client, found: list[dict[str, NDArray[np.float32]]]) -> Client:
        """A client without a server, whose unmixer calls all that it sees grey matter."""

        def network(**inputs: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            found.append(inputs)
            d, h, w = (n // 2 for n in inputs["target"].shape[2:])
            blocks = inputs["target"].reshape(d, 2, h, 2, w, 2).transpose(1, 3, 5, 0, 2, 4).reshape(8, d, h, w)
            grey = np.where(blocks > 0, np.float32(40), np.float32(-40))
            return {"correction": np.concatenate([0 * grey, 0 * grey - 80, grey, *[0 * grey - 80] * 3])[None]}

        bundle = replace(client.bundle, unmixer_sees_target=True, unmixer_alone=True)
        unmixer = Unmixer(network, len(bundle.classes), 1.0, sees_target=True)
        return replace(client, bundle=bundle, unmixer=unmixer, segmenter=None)

    def test_nothing_is_sent_and_nothing_noted(self, client: Client) -> None:
        found: list[dict[str, NDArray[np.float32]]] = []
        scan, _ = brain_scan()
        result = segment(scan, self.alone(client, found), Options("local"))
        sent = segment(scan, client, PLAIN).views[0].mixture
        assert result.views == ()
        assert len(client.ledger.entries()) == 1, "of mode none alone"
        assert set(np.unique(result.labels)) == {0, 2}
        (inputs,) = found
        np.testing.assert_array_equal(inputs["target"][0], sent.astype(np.float32))
        assert not inputs["unmixer_input"].any()

    def test_an_unmixer_that_needs_an_answer_is_refused(self, client: Client) -> None:
        with pytest.raises(InputError, match="bundle toy-t1 has no mode local: its unmixer needs a server's answer"):
            segment(brain_scan()[0], client, Options("local"))


class TestWhatIsSent:
    """What the server is shown, and that it learns nothing from seeing a scan twice."""

    @pytest.mark.parametrize("options", [PLAIN, Options(references=2), Options("shielded")])
    def test_two_runs_are_the_same_bytes(self, options: Options, client: Client) -> None:
        scan, _ = brain_scan()
        first, second = (segment(scan, client, options) for _ in range(2))
        assert [v.mixture.tobytes() for v in first.views] == [v.mixture.tobytes() for v in second.views]
        np.testing.assert_array_equal(first.labels, second.labels)

    def test_shielded_is_bent_and_shares_no_reference_with_mixup(self, client: Client) -> None:
        scan, _ = brain_scan()
        shielded, mixup = (segment(scan, client, Options(mode, weight=0.3)).views[0] for mode in ("shielded", "mixup"))
        outside = segment(scan, client, PLAIN).views[0].mixture == 0
        assert not np.array_equal(shielded.mixture, mixup.mixture)
        assert (shielded.mixture[outside] > 0).sum() > (mixup.mixture[outside] > 0).sum()

    def test_a_bundle_without_the_mode_says_so(self, client: Client, bundle: Bundle) -> None:
        without = replace(client, bundle=replace(bundle, shielded=None))
        with pytest.raises(InputError, match="bundle toy-t1 has no mode shielded: expected mixup or none"):
            segment(brain_scan()[0], without, Options("shielded"))

    def test_more_references_begin_with_the_same(self, client: Client) -> None:
        scan, _ = brain_scan()
        one, two = (segment(scan, client, Options(references=k)) for k in (1, 2))
        np.testing.assert_array_equal(one.views[0].mixture, two.views[0].mixture)

    @pytest.mark.parametrize("what", ["voxel", "key", "fixed weight", "bundle"])
    def test_another_reference_and_weight_for_another(
        self, what: str, mixed: list[Mixed], client: Client, bundle: Bundle
    ) -> None:
        """Never only another weight: one reference in two shares could be subtracted."""
        scan, options = brain_scan()[0], Options()
        segment(scan, client, options)
        if what == "voxel":
            scan = touched(scan)
        elif what == "key":
            client = replace(client, key=ClientKey(bytes(32)))
        elif what == "fixed weight":
            options = Options(weight=0.5)
        else:
            client = replace(client, bundle=replace(bundle, fingerprint="0" * 64))
        segment(scan, client, options)
        (first, first_weight), (second, second_weight) = mixed
        assert first is not None
        assert second is not None
        assert (first.labels != second.labels).mean() > 0.05
        assert abs(first_weight - second_weight) > 1e-4

    @pytest.mark.parametrize("options", [PLAIN, Options(), Options(weight=0.9, references=2)])
    def test_nothing_outside_the_two_brains(
        self, options: Options, mixed: list[Mixed], client: Client, bundle: Bundle
    ) -> None:
        """Face and skull of the scan leave no trace, however bright."""
        scan, _ = brain_scan()
        voxels = scan.voxels.copy(order="F")
        voxels[2:10, 60:70, 2:50] = 880.0  # a piece of skull, away from the brain
        recording = Recording(bundle)
        target = segment(replace(scan, voxels=voxels), replace(client, segmenter=recording), options).target
        assert target.image[target.mask == 0].max() > 800
        sent = [(None, 1.0)] if options == PLAIN else mixed
        for mixture, (reference, _) in zip(recording.seen, sent, strict=True):
            union = target.mask if reference is None else target.mask | reference.mask
            assert mixture.dtype == np.float16
            assert mixture.shape == (1, 1, *bundle.grid_shape)
            assert not mixture[0, 0][union == 0].any()

    def test_what_is_kept_of_it_is_what_was_sent(self, client: Client, bundle: Bundle) -> None:
        recording = Recording(bundle)
        result = segment(brain_scan()[0], replace(client, segmenter=recording), Options(references=2))
        for view, seen in zip(result.views, recording.seen, strict=True):
            np.testing.assert_array_equal(view.mixture, seen[0])

    def test_no_secret_in_reprs(self, client: Client) -> None:
        result = segment(brain_scan()[0], client, Options())
        assert "array" not in repr(result)
        assert "seed" not in repr(client)
        assert json.dumps(repr(client.key)) == '"ClientKey(secret)"'


class TestLedger:
    def test_every_send_is_entered_before_it_happens(self, client: Client) -> None:
        class Broken:
            leaves_machine, address = True, "host:1"

            def segment(self, mixture: NDArray[np.float16]) -> NDArray[np.uint8]:
                raise ServerUnavailableError("server gone")

        with pytest.raises(ServerUnavailableError, match="server gone"):
            segment(brain_scan()[0], replace(client, segmenter=Broken()), Options(references=2))
        (entry,) = client.ledger.entries()
        assert (entry.server, entry.mode, entry.views, entry.bundle) == ("host:1", "mixup", 2, "toy-t1 0.1.0")

    def test_a_copy_of_a_scan_is_told_but_not_the_scan_itself(self, client: Client) -> None:
        scan, _ = brain_scan()
        remote = replace(client, segmenter=RemoteSegmenter(client.bundle))
        assert segment(scan, remote, Options()).warnings == ()
        assert segment(scan, remote, Options()).warnings == ()
        flipped = np.diag([-1.0, 1, 1, 1])
        flipped[0, 3] = scan.voxels.shape[0] - 1
        copy = replace(scan, voxels=np.asfortranarray(scan.voxels[::-1] * 2), affine=scan.affine @ flipped)
        (warning,) = segment(copy, remote, Options()).warnings
        assert warning.startswith("looks like another copy of a scan, or another scan of a person, sent on 2")

    def test_what_stays_on_this_machine_is_no_reason_to_warn(self, client: Client) -> None:
        scan, _ = brain_scan()
        remote = replace(client, segmenter=RemoteSegmenter(client.bundle))
        segment(scan, client, Options())
        assert segment(touched(scan), client, Options()).warnings == ()
        assert segment(touched(scan), remote, Options()).warnings == ()

    def test_what_was_odd_about_the_file_is_told_in_every_mode(self, client: Client) -> None:
        scan = replace(brain_scan()[0], warnings=("pixdim is negative",))
        heard: list[str] = []
        prepared = prepare(scan, client, Options(), Stages())
        assert segment_prepared(prepared, client, Options(), Stages(), heard.append).warnings == ("pixdim is negative",)
        assert heard == ["pixdim is negative"]
        assert segment(scan, TestLocal().alone(client, []), Options("local")).warnings == ("pixdim is negative",)
