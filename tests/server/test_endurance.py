"""A thousand requests in a row: neither side may grow. ``pytest -m slow tests/server/test_endurance.py -s``."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.server.triton import TritonServer
from mixpriv.wire.address import parse_servers
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.servers import ServerPool
from tests.server.processes import session_members

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="needs the server extra"),
    pytest.mark.slow,
]
SETTLED, REQUESTS = 250, 1000


def resident_bytes(*pids: int) -> int:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_memory_stays(bundle: Bundle) -> None:
    random = np.random.default_rng(0)
    volumes = [random.random((1, 1, *bundle.grid_shape), np.float32).astype(np.float16) for _ in range(2)]
    network = InProcessSegmenter(bundle.segmenter_path)
    expected = [network.segment(volume) for volume in volumes]
    used: dict[int, tuple[int, int]] = {}
    with (
        TritonServer(bundle, host="127.0.0.1", port=0, stop_timeout_s=0) as server,
        ServerPool(parse_servers(server.address), SegmenterContract.of(bundle)) as segmenter,
    ):
        for number in range(1, REQUESTS + 1):
            answer = segmenter.segment(volumes[number % 2])
            np.testing.assert_array_equal(answer, expected[number % 2])
            if number in (1, SETTLED, REQUESTS):
                used[number] = resident_bytes(*session_members(server.pid)), resident_bytes(os.getpid())
                print(f"after {number}: server {used[number][0] / 1e6:.0f} MB, client {used[number][1] / 1e6:.0f} MB")
    for settled, after in zip(used[SETTLED], used[REQUESTS], strict=True):
        assert after <= 1.1 * settled
