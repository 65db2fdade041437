"""``--spread`` with processes: no operator gets two requests of a scan, and the labels are those of one server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mixpriv.bundle import Bundle
from mixpriv.cli.client.main import main
from tests.cli.recording_server import Recorder
from tests.support.certificates import Authority, Party, needs_openssl
from tests.wire.serving import listening

Segment = Callable[..., tuple[int, str, str]]


@pytest.fixture
def records(tmp_path: Path) -> list[Path]:
    """Where each of five operators writes down what came."""
    return [tmp_path / f"record{number}" for number in range(5)]


def lines(record: Path) -> list[str]:
    return record.read_text().split() if record.exists() else []


@pytest.fixture
def servers(bundle: Bundle, records: list[Path]) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(listening(Recorder(str(bundle.directory), record), f"127.0.0.{number}"))
            for number, record in enumerate(records, start=1)
        ]


@pytest.fixture
def segment(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> Segment:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["segment", "--bundle", str(bundle.directory), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_every_operator_gets_one_and_the_labels_are_those_of_one_server(
    segment: Segment, scan: Path, servers: list[str], records: list[Path], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    options = ("--references", 5, "--spread", "--server", ",".join(servers), "--force")
    assert segment(scan, *options)[0] == 0
    spread = (scan.parent / "head_dseg.nii.gz").read_bytes()
    got = [lines(record) for record in records]
    assert [len(one) for one in got] == [1] * 5
    assert len({one[0] for one in got}) == 5
    # once more, the names in another order, and fewer of them: each gets the very same bytes or nothing
    assert segment(scan, *options[:3], "--server", ",".join(servers[::-1]), "--force")[0] == 0
    fewer = ("--references", 3, "--spread", "--server", ",".join(servers[:3]), "--force")
    assert segment(scan, *fewer)[0] == 0
    assert [set(lines(record)) for record in records] == [set(one) for one in got]
    # another ledger and the same key: one server gets the same five requests
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    (tmp_path / "home" / "config" / "mixpriv" / "ledger.sqlite3.begun").unlink()
    together = ("--references", 5, "--server", servers[0], "--allow-repeat", "--force")
    assert segment(scan, *together)[0] == 0
    assert set(lines(records[0])) == {one[0] for one in got}
    assert (scan.parent / "head_dseg.nii.gz").read_bytes() == spread


def test_another_operator_in_the_middle_would_move_the_others_and_is_refused(
    segment: Segment, scan: Path, servers: list[str], records: list[Path]
) -> None:
    options = ("--references", 2, "--spread", "--force", "--server")
    assert segment(scan, *options, f"{servers[0]},{servers[2]}")[0] == 0
    code, _, err = segment(scan, *options, f"{servers[1]},{servers[2]}")
    assert code == 0, err  # the first request to another operator, the second where it was
    code, _, err = segment(scan, *options, f"{servers[0]},{servers[1]}")
    assert code == 2
    assert "another view would tell it more" in err
    code, _, err = segment(scan, "--force", "--server", servers[3])
    assert code == 2
    assert "another view would tell it more" in err
    assert [len(set(lines(record))) for record in records] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--references", "2", "--server", "127.0.0.1:1"), "expected a server for each of 2 references, got 1"),
        (("--references", "2", "--server", "127.0.0.1:1,127.0.0.1:2"), "have one name"),
        (("--server", "127.0.0.1:1,127.0.0.2:1"), "expected 2 references or more, got 1"),
        (("--references", "2", "--server", "embedded"), "expected the servers of several operators"),
        (("--references", "2"), "expected the servers of several operators"),
    ],
)
def test_bad_usage(segment: Segment, scan: Path, options: tuple[str, ...], message: str) -> None:
    code, out, err = segment(scan, "--spread", *options)
    assert (code, out) == (2, "")
    assert err.startswith("mixpriv-client: error: spread: ")
    assert message in err
    assert err.count("\n") == 1


@contextmanager
def operator(bundle: Bundle, host: str, record: Path, party: Party) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.cli.recording_server", bundle.directory, host, record]
    running = subprocess.Popen(
        [*map(str, command), str(party.certificate), str(party.key)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert running.stdin is not None
    assert running.stdout is not None
    yield running.stdout.readline().strip()
    running.stdin.close()
    running.wait(60)
    running.stdout.close()


@needs_openssl
@pytest.mark.slow
def test_with_five_server_processes_each_with_a_certificate_of_its_own(
    bundle: Bundle, scan: Path, records: list[Path], tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "pki")
    with ExitStack() as stack:
        addresses = []
        for number, record in enumerate(records, start=1):
            party = authority.server(f"operator{number}.example.org", ip=f"127.0.0.{number}")
            addresses.append(stack.enter_context(operator(bundle, f"127.0.0.{number}", record, party)))
        command = [sys.executable, "-m", "mixpriv.cli.client.main", "segment", scan, "--bundle", bundle.directory]
        command += ["--references", 5, "--spread", "--server", ",".join(addresses), "--tls-ca", authority.certificate]
        command += ["--receipt", tmp_path / "r.json"]
        for force in ((), ("--force",)):
            done = subprocess.run(
                [*map(str, command), *force], capture_output=True, text=True, timeout=300, check=False
            )
            assert done.returncode == 0, done.stderr
    got = [lines(record) for record in records]
    assert [(len(one), len(set(one))) for one in got] == [(2, 1)] * 5
    assert len({one[0] for one in got}) == 5
