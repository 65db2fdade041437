"""mixpriv as a user of Python meets it."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

import mixpriv
from mixpriv.bundle import Bundle
from mixpriv.client import segmentation
from mixpriv.client.ledger import Ledger
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.errors import InputError, OutputError, ServerUnavailableError
from mixpriv.imaging.volume import load_volume
from mixpriv.labels import Labelling
from mixpriv.wire.contract import SegmenterContract
from tests.support.fixtures import bundle
from tests.support.phantom import brain_scan, write_scan
from tests.support.toybundle import PAIR, write_toy_bundle
from tests.wire.fakeserver import FakeServer, response

__all__ = ["bundle"]

needs_triton = pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="needs the server extra")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "head.nii.gz")


@pytest.fixture
def seg(bundle: Bundle, scan: Path) -> mixpriv.Segmentation:
    return mixpriv.segment(scan, bundle)


class WorkingServer(FakeServer):
    """Answers what the bundle's network does."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(SegmenterContract.of(bundle), lambda context: None)
        self._network, self._one_at_a_time = InProcessSegmenter(bundle.segmenter_path), threading.Lock()

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by KServe
        mixture = np.frombuffer(request.raw_input_contents[0], np.float16).reshape(1, *self.contract.mixture.shape)
        with self._one_at_a_time:
            self.requests.append(request)
            return response(self._network.segment(mixture))


@pytest.fixture
def server(bundle: Bundle) -> Iterator[tuple[str, FakeServer]]:
    """The address of a server, and what it was shown."""
    fake = WorkingServer(bundle)
    running = fake.bind()
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield f"127.0.0.1:{port}", fake
    running.stop(None)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class TestImport:
    """Heavy libraries are loaded when they are needed, and not before."""

    def test_loads_no_network_and_no_server(self) -> None:
        heavy = ("torch", "onnxruntime", "tritonclient", "openvino", "grpc", "scipy", "nibabel", "numpy")
        code = (
            "import sys, time; begin = time.perf_counter(); import mixpriv; mixpriv.segment, mixpriv.Client\n"
            f"print(time.perf_counter() - begin, [name for name in {heavy} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, _, loaded = done.stdout.strip().partition(" ")
        assert loaded == "[]"
        assert float(seconds) < 2  # .05 on a machine that does nothing else

    def test_every_public_name_is_there(self) -> None:
        assert [name for name in mixpriv.__all__ if getattr(mixpriv, name, None) is None] == []
        assert set(dir(mixpriv)) == set(mixpriv.__all__)

    def test_other_names_are_not(self) -> None:
        with pytest.raises(AttributeError, match="module 'mixpriv' has no attribute 'segmnet'"):
            _ = mixpriv.segmnet


class TestScans:
    def test_all_kinds_give_the_same_labels(self, bundle: Bundle, scan: Path) -> None:
        image = nib.load(scan)
        with mixpriv.Client(bundle) as client:
            expected = client.segment(scan).labels
            assert expected.any()
            for same in (str(scan), image, (np.asanyarray(image.dataobj), image.affine), load_volume(scan)):
                np.testing.assert_array_equal(client.segment(same).labels, expected)

    @pytest.mark.parametrize("scaling", [(1, 0), (0.37, -11.3)])
    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    def test_an_image_is_the_same_scan_as_its_file_to_a_server(
        self, bundle: Bundle, tmp_path: Path, server: tuple[str, FakeServer], kind: Any, scaling: tuple[float, float]
    ) -> None:
        address, fake = server
        phantom, _ = brain_scan()
        stored = kind(phantom.voxels.astype(np.int16), phantom.affine)
        stored.header.set_slope_inter(*scaling)
        stored.to_filename(tmp_path / "a.nii.gz")
        with mixpriv.Client(bundle, server=address) as client:
            one = client.segment(tmp_path / "a.nii.gz")
            other = client.segment(nib.load(tmp_path / "a.nii.gz"))
        assert len({request.raw_input_contents[0] for request in fake.requests}) == 1
        assert one.warnings == other.warnings == ()

    def test_an_image_keeps_its_geometry(self, bundle: Bundle, scan: Path) -> None:
        made = nib.Nifti1Image(np.asanyarray(nib.load(scan).dataobj), nib.load(scan).affine)
        moved = made.affine.copy()
        moved[:3, 3] += 5
        seg = mixpriv.segment(nib.Nifti1Image(made.dataobj, moved, made.header), bundle)
        np.testing.assert_array_equal(seg.affine, moved)
        np.testing.assert_allclose(seg.to_nibabel().affine, moved)

    def test_other_formats_of_nibabel(self, bundle: Bundle, scan: Path, tmp_path: Path) -> None:
        image = nib.load(scan)
        data = np.asanyarray(image.dataobj).astype(np.float32)
        expected = mixpriv.segment(scan, bundle).labels
        nib.save(nib.MGHImage(data, image.affine), tmp_path / "a.mgz")
        pair = nib.Nifti1Pair(data, image.affine)
        for other in (nib.load(tmp_path / "a.mgz"), pair):
            seg = mixpriv.segment(other, bundle)
            np.testing.assert_array_equal(seg.labels, expected)
            np.testing.assert_allclose(seg.to_nibabel().affine, image.affine)

    def test_a_further_axis_of_one_is_no_modality(self, bundle: Bundle, scan: Path) -> None:
        image = nib.load(scan)
        data = np.asanyarray(image.dataobj)[..., None]
        expected = mixpriv.segment(scan, bundle).labels
        for same in ((data, image.affine), nib.Nifti1Image(data, image.affine)):
            np.testing.assert_array_equal(mixpriv.segment(same, bundle).labels, expected)

    def test_the_caller_s_array_is_untouched(self, bundle: Bundle, scan: Path) -> None:
        image = nib.load(scan)
        data = np.asfortranarray(image.get_fdata(dtype=np.float32))
        before = data.copy()
        mixpriv.segment((data, image.affine), bundle)
        np.testing.assert_array_equal(data, before)


ARRAY = np.random.default_rng(0).random((20, 20, 20))
EYE = np.eye(4)

BAD_SCANS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "scan: expected a path, a nibabel image or .*, got NoneType"),
    "an array alone": (ARRAY, "scan: expected a path, .* got ndarray"),
    "a list": ([ARRAY, EYE], "scan: expected a path, .* got list"),
    "three": ((ARRAY, EYE, EYE), "scan: expected a path, .* got tuple"),
    "bytes": (b"head.nii", "scan: expected a path, .* got bytes"),
    "no file": ("missing.nii.gz", "missing.nii.gz: no such file"),
    "no name": ("", "scan: expected a file or folder, got ''"),
    "a name with a null": ("a\0b.nii", "no file has such a name"),
    "a name of two lines": ("a\nb.nii", r"a\\nb.nii: no such file"),
    "text": (("voxels", EYE), "voxels: expected an array of real numbers, got str"),
    "complex": ((ARRAY * 1j, EYE), "voxels: expected an array of real numbers, got ndarray of complex128"),
    "ragged": (([[1, 2], [3]], EYE), "voxels: expected an array of numbers"),
    "no affine": ((ARRAY, None), "affine: expected an array of real numbers, got NoneType"),
    "another affine": ((ARRAY, np.eye(3)), "affine: expected a 4x4 matrix"),
    "an affine of infinity": ((ARRAY, np.diag([1, np.inf, 1, 1])), "affine has NaN or infinite entries"),
    "flat": ((ARRAY, np.diag([1.0, 1, 0, 1])), "array: expected voxels of 0.05 to 20 mm"),
    "two axes": ((ARRAY[0], EYE), "array: expected a 3-D image, got shape"),
    "two modalities": ((np.stack([ARRAY, ARRAY], -1), EYE), "array: expected a 3-D image, got shape"),
    "too few voxels": ((ARRAY[:7], EYE), "array: expected at least 8 voxels"),
    "too many voxels": ((np.broadcast_to(np.float32(0), (600, 600, 600)), EYE), "array: expected at most"),
    "one value": ((np.ones_like(ARRAY), EYE), "array: all voxels have the same value"),
    "NaN": ((np.where(ARRAY > 0.9, np.nan, ARRAY), EYE), "array: voxels are NaN or infinite"),
    "too large for float32": ((ARRAY * 1e300, EYE), "array: voxels are NaN or infinite"),
    "complex image": (
        nib.Nifti1Image((ARRAY * 1j).astype(np.complex64), EYE),
        "image: expected an array of real numbers",
    ),
    "image without an affine": (nib.Nifti1Image(ARRAY, None), "image: .*pixdim|image: .*expected"),
    "image of many volumes": (nib.Nifti1Image(np.zeros((20, 20, 20, 9)), EYE), "image: expected a 3-D image"),
}


class TestBadInput:
    @pytest.mark.parametrize(("scan", "message"), BAD_SCANS.values(), ids=BAD_SCANS)
    def test_scans(self, bundle: Bundle, scan: Any, message: str) -> None:
        with mixpriv.Client(bundle) as client, pytest.raises(InputError, match=message) as caught:
            client.segment(scan)
        assert str(caught.value).isprintable()

    def test_an_image_whose_file_is_cut_or_gone(self, bundle: Bundle, scan: Path) -> None:
        whole = scan.read_bytes()
        for content in (whole[: len(whole) // 2], None):
            scan.write_bytes(whole)
            image = nib.load(scan)
            scan.unlink() if content is None else scan.write_bytes(content)
            with pytest.raises(InputError, match=r"head.nii.gz: file is missing, truncated or damaged"):
                mixpriv.segment(image, bundle)

    def test_modalities_that_are_missing(self, tmp_path: Path) -> None:
        pair = write_toy_bundle(tmp_path / "pair", modalities=PAIR)
        for scan in ((ARRAY, EYE), replace(brain_scan()[0])):
            with (
                mixpriv.Client(pair) as client,
                pytest.raises(InputError, match="expected a 4-D image whose last axis"),
            ):
                client.segment(scan)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"bundle": "none-such"}, "bundle 'none-such' not found"),
            ({"bundle": 3}, "bundle: expected a name, a folder or a Bundle, got int"),
            ({"bundle": b"brain-t1"}, "bundle: expected a name, a folder or a Bundle, got bytes"),
            ({"mode": "plain"}, "mode: expected one of local, shielded, mixup, none, got 'plain'"),
            ({"mode": mixpriv.Shielded}, r"mode: expected a name or an object such as Shielded\(\), got Shielded"),
            ({"mode": 1}, "mode: expected a name or an object .*, got int"),
            ({"mode": "local"}, "has no mode local"),
            ({"server": 8001}, "server: expected HOST:PORT, .*, got int"),
            ({"server": "seg.example.org:8001", "timeout_s": 0}, "timeout_s: expected a number of seconds above 0"),
            ({"timeout_s": float("nan")}, "timeout_s: expected .*, got nan"),
            ({"timeout_s": "60"}, "timeout_s: expected .*, got '60'"),
            ({"tls": "ca.pem"}, "tls: expected mixpriv.TlsOptions, got str"),
            ({"token": "a-secret-0123456789"}, "token: expected mixpriv.Token, got str"),
            ({"device": "gpu"}, "device: expected one of auto, cpu, cuda, got 'gpu'"),
        ],
    )
    def test_options(self, bundle: Bundle, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            mixpriv.Client(**{"bundle": bundle, **options})
        assert str(caught.value).isprintable()
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("address", ["", "seg.example.org", "http://seg.example.org:8001", "a:1,a:1"])
    def test_addresses(self, bundle: Bundle, scan: Path, address: str) -> None:
        with mixpriv.Client(bundle, server=address) as client, pytest.raises(InputError, match=r"^server"):
            client.segment(scan)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: mixpriv.Mixup(weights="0.5"), "weight: expected a number between 0 and 1"),
            (lambda: mixpriv.Mixup(weights=(0.5,) * 3), "weight: expected"),
            (lambda: mixpriv.Mixup(weights=(0.5, 0.1)), "weight: expected"),
            (lambda: mixpriv.Mixup(references="3"), "references: expected 1 to 20, got '3'"),
            (lambda: mixpriv.Mixup(references=2.5), "references: expected 1 to 20"),
            (lambda: mixpriv.Mixup(source="Bank"), "source of references: expected generator or bank, got 'Bank'"),
            (lambda: mixpriv.Shielded(warp_mm=0), "warp: expected a mean length above 0"),
            (lambda: mixpriv.Shielded(warp_mm=99), "warp: expected a mean length above 0 and at most 8 mm"),
            (lambda: mixpriv.Shielded(warp_mm="8"), "warp: expected a mean length"),
            (lambda: mixpriv.Token("short"), "token: expected 16 to 256 letters"),
        ],
    )
    def test_modes_and_tokens(self, make: Callable[[], object], message: str) -> None:
        with pytest.raises(InputError, match=message):
            make()

    def test_numbers_of_numpy_draw_the_same(self) -> None:
        assert repr(mixpriv.Mixup((np.float64(0.25), np.float64(0.5)))) == repr(mixpriv.Mixup((0.25, 0.5)))
        assert repr(mixpriv.Shielded(np.float32(0.25), warp_mm=8)) == repr(mixpriv.Shielded(0.25, 8.0))


class TestDefaults:
    def test_without_a_server_nothing_is_left_and_nothing_leaves(
        self, bundle: Bundle, scan: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("socket.socket.connect", lambda *arguments: pytest.fail("nothing may be sent"))
        before = files_in(home)
        seg = mixpriv.segment(scan, bundle)
        assert files_in(home) == before  # neither key nor ledger
        assert seg.server is None
        assert [exchange.sent.dtype for exchange in seg.exchanges] == [np.float16]

    def test_the_mode(self, bundle: Bundle) -> None:
        assert mixpriv.Client(bundle).mode == mixpriv.Plain()
        assert mixpriv.Client(bundle, server="seg.example.org:8001").mode == mixpriv.Mixup()
        shielded = replace(bundle, recommended_mode="shielded")
        assert mixpriv.Client(shielded, server="seg.example.org:8001").mode == mixpriv.Shielded()

    @pytest.mark.parametrize("name", ["mixup", "shielded", "none"])
    def test_by_object_and_by_name(self, bundle: Bundle, scan: Path, name: str) -> None:
        mode = {"mixup": mixpriv.Mixup(), "shielded": mixpriv.Shielded(), "none": mixpriv.Plain()}[name]
        one, other = mixpriv.segment(scan, bundle, mode=name), mixpriv.segment(scan, bundle, mode=mode)
        assert one.exchanges[0].sent.tobytes() == other.exchanges[0].sent.tobytes()
        np.testing.assert_array_equal(one.labels, other.labels)

    def test_a_mode_that_sends_nothing_takes_no_server(self, bundle: Bundle) -> None:
        alone = replace(bundle, unmixer_alone=True)
        assert mixpriv.Client(alone, mode="local").mode == mixpriv.Local()
        with pytest.raises(InputError, match=r"mode local sends nothing: expected no server, got seg.example.org:8001"):
            mixpriv.Client(alone, server="seg.example.org:8001", mode="local")

    def test_a_network_that_is_the_server_s(self, bundle: Bundle, tmp_path: Path) -> None:
        elsewhere = replace(bundle, directory=tmp_path)
        with pytest.raises(InputError, match="its network is at its owner's server: expected a server"):
            mixpriv.Client(elsewhere)
        mixpriv.Client(elsewhere, server="seg.example.org:8001")


class TestServer:
    def test_several_scans(self, bundle: Bundle, tmp_path: Path, server: tuple[str, FakeServer]) -> None:
        address, fake = server
        scans = [write_scan(tmp_path / f"{person}.nii.gz", person=person) for person in (1, 2)]
        with mixpriv.Client(bundle, server=address, mode=mixpriv.Shielded()) as client:
            assert (client.sent_to, client.is_open, client.start_s) == (None, False, None)
            done = [client.segment(scan) for scan in scans]
            assert (client.sent_to, client.is_open) == (address, True)
        assert [seg.server for seg in done] == [address] * 2
        sent = [request.raw_input_contents[0] for request in fake.requests]
        assert sent == [seg.exchanges[0].sent.tobytes() for seg in done]
        assert [(entry.server, entry.mode) for entry in Ledger().entries()] == [(address, "shielded")] * 2

    def test_another_request_of_a_scan_is_refused(
        self, bundle: Bundle, scan: Path, server: tuple[str, FakeServer]
    ) -> None:
        address, fake = server
        mixpriv.segment(scan, bundle, server=address)
        with pytest.raises(InputError, match=r"another view would tell it more; .*allow_repeat=True"):
            mixpriv.segment(scan, bundle, server=address, mode="none")
        assert len(fake.requests) == 1
        with mixpriv.Client(bundle, server=address, mode="none", allow_repeat=True) as client:
            client.segment(scan)
        assert len(fake.requests) == 2

    def test_that_is_not_there(self, bundle: Bundle, scan: Path) -> None:
        with mixpriv.Client(bundle, server="unix:/none/such") as client:
            for _ in range(2):
                with pytest.raises(ServerUnavailableError, match="unix:/none/such") as caught:
                    client.segment(scan)
                assert str(caught.value).isprintable()
        assert Ledger().entries() == []


class TestThreads:
    """No signal handlers, and no thread is better than another."""

    def test_two_clients_in_two_threads(self, bundle: Bundle, tmp_path: Path, server: tuple[str, FakeServer]) -> None:
        scans = [write_scan(tmp_path / f"{person}.nii.gz", person=person) for person in (1, 2)]
        expected = [mixpriv.segment(scan, bundle, mode="mixup").labels for scan in scans]

        def work(scan: Path) -> NDArray[np.uint8]:
            with mixpriv.Client(bundle, server=server[0]) as client:
                return client.segment(scan).labels

        with ThreadPoolExecutor(2) as pool:
            for labels, wanted in zip(pool.map(work, scans), expected, strict=True):
                np.testing.assert_array_equal(labels, wanted)

    def test_one_client_that_threads_share(
        self, bundle: Bundle, tmp_path: Path, server: tuple[str, FakeServer]
    ) -> None:
        scans = [write_scan(tmp_path / f"{person}.nii.gz", person=person) for person in (1, 2, 3)]
        expected = [mixpriv.segment(scan, bundle, mode="mixup").labels for scan in scans]
        with mixpriv.Client(bundle, server=server[0]) as client, ThreadPoolExecutor(3) as pool:
            for seg, wanted in zip(pool.map(client.segment, scans), expected, strict=True):
                np.testing.assert_array_equal(seg.labels, wanted)

    def test_in_a_notebook(self, bundle: Bundle, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def cell() -> mixpriv.Segmentation:
            return mixpriv.segment(nib.load(scan), bundle)

        loop = asyncio.new_event_loop()  # a kernel runs its cells in one
        monkeypatch.setattr(signal, "signal", lambda *arguments: pytest.fail("signals belong to the notebook"))
        assert loop.run_until_complete(cell()).labels.any()
        loop.close()

    @needs_triton
    def test_an_embedded_server_outlives_the_thread_that_asked_for_it(self, bundle: Bundle, scan: Path) -> None:
        client = mixpriv.Client(bundle, server="embedded")
        done: list[mixpriv.Segmentation] = []
        worker = threading.Thread(target=lambda: done.append(client.segment(scan)))
        worker.start()
        worker.join()
        again = client.segment(scan)
        assert client.sent_to is None
        client.close()
        np.testing.assert_array_equal(again.labels, done[0].labels)
        np.testing.assert_array_equal(again.labels, mixpriv.segment(scan, bundle, mode="mixup").labels)
        assert {entry.server for entry in Ledger().entries()} == {"embedded"}


class TestClosing:
    def test_twice_does_nothing(self, bundle: Bundle, scan: Path) -> None:
        client = mixpriv.Client(bundle)
        client.segment(scan)
        client.close()
        client.close()
        assert not client.is_open

    def test_a_closed_one_says_so(self, bundle: Bundle, scan: Path) -> None:
        with mixpriv.Client(bundle) as client:
            pass
        with pytest.raises(InputError, match="client: closed"):
            client.segment(scan)

    def test_what_was_opened_is_left_when_nobody_closes(self, bundle: Bundle) -> None:
        client, left = mixpriv.Client(bundle), []
        client._stack.callback(left.append, 1)
        del client
        assert left == [1]


class TestSegmentation:
    def test_labels_and_geometry(self, seg: mixpriv.Segmentation, scan: Path) -> None:
        assert seg.labels.dtype == np.uint8
        assert seg.labels.shape == nib.load(scan).shape
        np.testing.assert_array_equal(seg.affine, nib.load(scan).affine)
        assert seg.warnings == ()
        assert len(seg.exchanges) == 1
        assert seg.exchanges[0].received.dtype == np.uint8

    def test_volumes(self, seg: mixpriv.Segmentation) -> None:
        assert list(seg.volumes_ml) == list(seg.bundle.classes[1:])
        assert seg.volumes_ml["white matter"] == pytest.approx(0.027 * (seg.labels == 1).sum(), abs=1e-3)

    def test_former_names_of_classes(self, seg: mixpriv.Segmentation) -> None:
        names = ("background", "white matter", "grey matter", *segmentation._FORMER_NAMES.values())
        labelling = Labelling.of(replace(seg.bundle, classes=names))
        renamed = replace(seg, labelling=labelling).volumes_ml
        for former, name in segmentation._FORMER_NAMES.items():
            with pytest.warns(DeprecationWarning, match=f"class '{former}' is now '{name}'"):
                assert renamed[former] == renamed[name] > 0
        with pytest.raises(KeyError, match="white mater"):
            _ = renamed["white mater"]

    def test_no_voxel_in_its_repr(self, seg: mixpriv.Segmentation) -> None:
        assert "array" not in repr(seg)

    def test_to_nibabel(self, seg: mixpriv.Segmentation) -> None:
        image = seg.to_nibabel()
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), seg.labels)
        assert image.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(image.affine, seg.affine)

    @pytest.mark.parametrize("name", ["out.nii.gz", "OUT.NII"])
    @pytest.mark.parametrize("kind", [str, Path])
    def test_save(self, seg: mixpriv.Segmentation, tmp_path: Path, name: str, kind: type) -> None:
        seg.save(kind(tmp_path / name))
        np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / name).dataobj), seg.labels)
        header, *rows = (tmp_path / f"{name[:3]}.tsv").read_text().splitlines()
        assert header.split("\t") == ["index", "name", "abbreviation", "color", "voxels", "volume_ml", "flags"]
        assert len(rows) == len(seg.volumes_ml)

    @pytest.mark.parametrize("existing", ["out.nii.gz", "out.tsv"])
    def test_nothing_is_overwritten_unless_asked(
        self, seg: mixpriv.Segmentation, tmp_path: Path, existing: str
    ) -> None:
        (tmp_path / existing).write_text("precious")
        with pytest.raises(InputError, match=f"{existing}: output exists; pass overwrite=True to overwrite it"):
            seg.save(tmp_path / "out.nii.gz")
        assert (tmp_path / existing).read_text() == "precious"
        assert len({"out.nii.gz", "out.tsv"} & files_in(tmp_path)) == 1
        seg.save(tmp_path / "out.nii.gz", overwrite=True)
        assert (tmp_path / existing).read_bytes()[:8] != b"precious"

    def test_never_over_the_scan(self, seg: mixpriv.Segmentation, scan: Path) -> None:
        before = scan.read_bytes()
        with pytest.raises(InputError, match=r"head.nii.gz: expected an output that is not the scan itself"):
            seg.save(scan, overwrite=True)
        assert scan.read_bytes() == before

    def test_where_nothing_can_be_written(self, seg: mixpriv.Segmentation, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="its folder does not exist"):
            seg.save(tmp_path / "none" / "out.nii.gz")
        with pytest.raises(InputError, match=r"out.png: expected an output named .nii, .nii.gz, .mgz or .mgh"):
            seg.save(tmp_path / "out.png")
