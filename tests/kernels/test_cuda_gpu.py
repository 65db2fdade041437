"""What only a GPU can show: streams, other libraries, sizes beyond 2^31 bytes; see docs/kernels.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mixpriv import cuda, kernels
from tests.kernels.definitions import Array

pytestmark = pytest.mark.gpu

SHAPE = (64, 96, 80)


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(cuda.EMULATION, raising=False)
    if why := cuda.problem():
        pytest.skip(why)
    yield
    cuda.synchronize()


def image(seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(SHAPE, np.float32)


@pytest.fixture
def torch() -> Any:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("needs PyTorch with CUDA")
    return torch


@pytest.fixture
def cupy() -> Any:
    return pytest.importorskip("cupy", reason="needs CuPy")


class TestPyTorch:
    def test_tensors_go_in_and_results_come_out_without_a_copy(self, torch: Any) -> None:
        total, more = torch.from_numpy(image(0)).cuda(), torch.from_numpy(image(1)).cuda()
        kernels.accumulate(total, more)
        np.testing.assert_array_equal(total.cpu().numpy(), image(0) + image(1))
        there = cuda.to_device(image())
        shown = torch.from_dlpack(there)
        assert shown.data_ptr() == there.__cuda_array_interface__["data"][0]
        np.testing.assert_array_equal(shown.cpu().numpy(), image())

    def test_work_is_ordered_on_the_chosen_stream(self, torch: Any) -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream), cuda.stream(stream):
            total = torch.zeros(SHAPE, device="cuda")
            torch.cuda._sleep(50_000_000)
            total += 1
            kernels.accumulate(total, total)
            total *= 3
        stream.synchronize()
        assert bool((total == 6).all())
        assert torch.cuda.current_stream() != stream

    def test_other_streams_wait_for_what_dlpack_shares(self, torch: Any) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(50_000_000)
            tensor = torch.full(SHAPE, 7.0, device="cuda")
            assert kernels.robust_range(tensor) == (7.0, 7.0)  # type: ignore[arg-type]

    def test_tensors_on_the_cpu_and_with_gradients_are_refused(self, torch: Any) -> None:
        there = torch.zeros(SHAPE, device="cuda")
        with pytest.raises(
            ValueError, match="probabilities: expected an array on a CUDA device, got Tensor in the CPU's"
        ):
            kernels.accumulate(there, torch.zeros(SHAPE))
        with pytest.raises(ValueError, match="probabilities: expected an array that DLPack can share, got Tensor and"):
            kernels.accumulate(there, torch.zeros(SHAPE, device="cuda", requires_grad=True))

    def test_the_callers_device_stays(self, torch: Any) -> None:
        if torch.cuda.device_count() < 2:
            pytest.skip("needs two devices")
        moved = kernels.argmax(torch.zeros((2, 3, 4, 5), device="cuda:1"))  # type: ignore[arg-type]
        assert moved.device == 1  # type: ignore[attr-defined]
        assert torch.cuda.current_device() == 0

    def test_freed_memory_is_not_taken_while_it_is_read(self, torch: Any) -> None:
        for seed in range(20):
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                labels = kernels.argmax(torch.from_numpy(np.stack([image(seed), 0.5 + 0 * image()])).cuda())
                torch.rand((2, *SHAPE), device="cuda")  # would land in the memory just freed
            np.testing.assert_array_equal(labels.copy_to_host(), image(seed) < 0.5)  # type: ignore[attr-defined]


class TestCuPy:
    def test_arrays_go_in_and_results_come_out_without_a_copy(self, cupy: Any) -> None:
        total, more = cupy.asarray(image(0)), cupy.asarray(image(1))
        kernels.accumulate(total, more)
        np.testing.assert_array_equal(total.get(), image(0) + image(1))
        there = cuda.to_device(image())
        assert cupy.from_dlpack(there).data.ptr == cupy.asarray(there).data.ptr
        np.testing.assert_array_equal(cupy.asarray(there).get(), image())

    def test_flipped_views(self, cupy: Any) -> None:
        flipped = cupy.asarray(image())[::-1, :, ::-1]
        identity = np.eye(4)[:3].copy()
        got = kernels.resample(flipped, identity, SHAPE).copy_to_host()  # type: ignore[attr-defined]
        np.testing.assert_array_equal(got, flipped.get())


class TestLargerThan2GiB:
    """Indices beyond 2^31; needs about 12 GiB on the device."""

    @pytest.fixture(autouse=True)
    def _room(self) -> None:
        try:
            cuda.to_device(np.zeros((9, 1 << 30), np.uint8))
        except RuntimeError:
            pytest.skip("needs more memory on the device")

    def test_streaming_kernels(self) -> None:
        answer = np.zeros((1, 1, 1, (1 << 28) + 4), np.uint8)  # five channels of 1 GiB each out of it
        answer[..., -3:] = 255
        known = cuda.unpack(cuda.to_device(answer), cuda.to_device(np.zeros_like(answer[0])), 1.0)
        labels = cuda.argmax(known[:2]).copy_to_host()
        assert labels[0, 0, -4:].tolist() == [0, 1, 1, 1]
        assert labels.sum() == 3

    def test_resampling(self) -> None:
        image = np.zeros((1, 1, (1 << 31) + 5), np.float32)
        image[..., -3:] = 7
        to_the_end = np.eye(4)[:3].copy()
        to_the_end[2, 3] = image.size - (1 << 20)
        got = cuda.resample(cuda.to_device(image), to_the_end, (1, 1, 1 << 20)).copy_to_host()
        assert got[0, 0, -4:].tolist() == [0, 7, 7, 7]
        assert got.sum() == 21

    def test_sums_and_ranges(self) -> None:
        values = np.zeros((1, 1, (1 << 29) + 7), np.float32)  # 2 GiB and a little
        values[..., -3:] = 5.0
        there = cuda.to_device(values)
        cuda.accumulate(there, there)
        assert cuda.robust_range(there, None, 0, 100) == (0.0, 10.0)
        mixture = cuda.mix(there, cuda.to_device(np.ones(values.shape, np.uint8)), (0.0, 10.0), None, None, 1.0)
        assert mixture.copy_to_host()[0, 0, -4:].tolist() == [0, 1, 1, 1]
