"""``mixpriv-server check`` and ``mixpriv-client`` on servers that answer oddly, or not at all."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from mixpriv.bundle import Bundle
from mixpriv.cli.server.main import main
from mixpriv.wire.contract import SegmenterContract
from tests.cli.running import started
from tests.wire.fakeserver import FakeServer
from tests.wire.http2 import Http2Server, Reply, failure, good_answer, good_config


def right_server(bundle: Bundle) -> tuple[Reply, Reply]:
    """What it says that it serves, and its answer to a volume."""
    contract = SegmenterContract.of(bundle)
    config = Reply([good_config(FakeServer(contract, lambda context: None))])
    return config, Reply([good_answer(np.zeros((1, *contract.segmentation_mixture.shape), np.uint8))])


ODD = [
    (Reply([b"\xff" * 9]), 4, "answered something that is no model configuration"),
    (Reply(), 4, "answered nothing"),
    (failure(99, b"%1b[2J%0aSecond"), 3, r"\x1b[2J"),
    (Reply([b"x"], headers=((b":status", b"x"), (b"\xff", b"\x1b[2J"))), 3, "failed ("),
]


class TestCheck:
    @pytest.mark.parametrize(("reply", "code", "message"), ODD)
    def test_tells_odd_answers_in_a_line(self, bundle: Bundle, reply: Reply, code: int, message: str) -> None:
        """As a process: neither gRPC nor Python adds anything."""
        with Http2Server(reply) as odd, Http2Server(*right_server(bundle)) as well:
            command = [sys.executable, "-m", "mixpriv.cli.server.main", "check", "--bundle", str(bundle.directory)]
            command += ["--server", f"{odd.address},{well.address}", "--timeout", "5"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        line = done.stderr.rstrip("\n")
        assert line.isprintable()
        assert line.startswith(f"mixpriv-server: server {odd.address} ")
        assert message in line
        assert done.stdout.startswith(f"mixpriv-server: {well.address} serves toy-t1 0.1.0, answered in ")

    def test_of_many_silent_servers_takes_the_time_of_one(
        self, bundle: Bundle, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with ExitStack() as stack:
            silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(6)]
            servers = ",".join(f"127.0.0.1:{one.getsockname()[1]}" for one in silent)
            begin = time.monotonic()
            arguments = ["check", "--bundle", str(bundle.directory), "--server", servers, "--timeout", "0.5"]
            assert main([*arguments, "--log", "json"]) == 3
            assert time.monotonic() - begin < 2.5
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["address"] for one in told] == servers.split(",")


class TestClient:
    @pytest.mark.parametrize(("reply", "code", "message"), ODD)
    def test_tells_odd_answers_in_a_line(
        self, bundle: Bundle, scan: Path, reply: Reply, code: int, message: str
    ) -> None:
        with (
            Http2Server(reply) as odd,
            started("segment", scan, "--bundle", bundle.directory, "--server", odd.address) as running,
        ):
            _, err = running.communicate(timeout=60)
        assert running.returncode == code, err
        (line,) = err.splitlines()
        assert line.isprintable()
        assert message in line
