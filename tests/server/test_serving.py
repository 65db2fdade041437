"""The real tritonserver with the toy bundle: answers, and refusals."""

from __future__ import annotations

import importlib.util
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.errors import IncompatibleServerError, InputError, ServerUnavailableError
from mixpriv.server.triton import TritonServer
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.transport import GrpcSegmenter
from tests.server.processes import model_process
from tests.support.toybundle import PAIR, expected_probabilities, write_toy_bundle

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="needs the server extra")


def mixture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 1, *shape), np.float32).astype(np.float16)


def connect(server: TritonServer, bundle: Bundle, timeout_s: float = 20) -> GrpcSegmenter:
    return GrpcSegmenter(server.address, SegmenterContract.of(bundle), timeout_s=timeout_s)


class TestAnswer:
    def test_is_that_of_the_network_in_this_process(self, server: TritonServer, bundle: Bundle) -> None:
        x = mixture(64, 80, 64)
        with connect(server, bundle) as segmenter:
            answer = segmenter.segment(x)
        np.testing.assert_array_equal(answer, InProcessSegmenter(bundle.segmenter_path).segment(x))

    def test_is_right(self, server: TritonServer, bundle: Bundle) -> None:
        x = mixture(64, 80, 64)
        with connect(server, bundle) as segmenter:
            answer = segmenter.segment(x)
        assert np.abs(answer - 255 * expected_probabilities(x)[:, 1:]).max() < 8

    def test_goes_to_the_client_that_asked(self, server: TritonServer, bundle: Bundle) -> None:
        volumes = [mixture(64, 80, 64, seed=k) for k in range(8)]

        def ask(volumes: list[np.ndarray]) -> list[np.ndarray]:
            with connect(server, bundle) as segmenter:
                return [segmenter.segment(x) for x in volumes]

        with ThreadPoolExecutor(4) as clients:
            answers = [a for answers in clients.map(ask, (volumes[k : k + 2] for k in (0, 2, 4, 6))) for a in answers]
        network = InProcessSegmenter(bundle.segmenter_path)
        for x, answer in zip(volumes, answers, strict=True):
            np.testing.assert_array_equal(answer, network.segment(x))

    def test_to_several_modalities(self, tmp_path: Path) -> None:
        pair = write_toy_bundle(tmp_path, name="toy-pair", modalities=PAIR)
        x = np.concatenate([mixture(64, 80, 64, seed=k) for k in range(2)], axis=1)
        with (
            TritonServer(pair, host="127.0.0.1", port=0, stop_timeout_s=0) as server,
            connect(server, pair) as segmenter,
        ):
            answer = segmenter.segment(x)
            with pytest.raises(InputError, match=r"mixture: expected shape \(N, 2, D, H, W\) .*, got \(1, 1, 64"):
                segmenter.segment(x[:, :1].copy())
        np.testing.assert_array_equal(answer, InProcessSegmenter(pair.segmenter_path).segment(x))


class TestRefusal:
    def test_of_another_version(self, server: TritonServer, bundle: Bundle) -> None:
        contract = SegmenterContract.of(bundle)
        swapped = replace(contract, model_version=contract.model_version + 1)
        with GrpcSegmenter(server.address, swapped) as segmenter:
            segmenter.check()
            with pytest.raises(IncompatibleServerError, match="does not serve this client's network"):
                segmenter.segment(mixture(64, 80, 64))

    def test_of_another_fingerprint(self, server: TritonServer, tmp_path: Path) -> None:
        with (
            connect(server, write_toy_bundle(tmp_path, sharpness=300)) as segmenter,
            pytest.raises(IncompatibleServerError, match=r"it serves toy-t1 0\.1\.0 \(fingerprint .*needs toy-t1"),
        ):
            segmenter.segment(mixture(64, 80, 64))

    def test_of_another_bundle(self, server: TritonServer, tmp_path: Path) -> None:
        with (
            connect(server, write_toy_bundle(tmp_path, name="other")) as segmenter,
            pytest.raises(IncompatibleServerError, match="does not serve this client's network"),
        ):
            segmenter.segment(mixture(64, 80, 64))

    def test_of_requests_beyond_the_queue(self, server: TritonServer, bundle: Bundle) -> None:
        stub = model_process(server.pid)
        x = mixture(64, 80, 64)
        os.kill(stub, signal.SIGSTOP)
        try:
            with connect(server, bundle) as segmenter, ThreadPoolExecutor(30) as clients:
                asked = [clients.submit(segmenter.segment, x) for _ in range(30)]
                while sum(a.done() for a in asked) < 4:  # those refused return at once, the others wait
                    pass
                os.kill(stub, signal.SIGCONT)
                errors = [e for e in (a.exception() for a in asked) if e is not None]
        finally:
            os.kill(stub, signal.SIGCONT)
        assert 4 <= len(errors) < 30
        for error in errors:
            with pytest.raises(ServerUnavailableError, match="is busy: its queue is full"):
                raise error

    def test_of_triton_administration(self, server: TritonServer) -> None:
        import tritonclient.grpc as triton

        client = triton.InferenceServerClient(server.address)
        for call in (client.get_system_shared_memory_status, client.get_model_repository_index):
            with pytest.raises(triton.InferenceServerException, match="protocol is restricted"):
                call(client_timeout=5)
        client.close()
