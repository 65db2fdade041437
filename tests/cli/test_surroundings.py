"""Closed streams, no home, no memory, odd names, full disks: it works, or one line names it, with a documented code."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixpriv.api import Client
from mixpriv.bundle import Bundle
from mixpriv.cli.client.main import main
from mixpriv.cli.process import explain
from mixpriv.cli.progress import Pace, shown
from mixpriv.client import ledger as ledgers
from mixpriv.client import segmentation
from mixpriv.client.ledger import Ledger, ledger_path
from mixpriv.client.table import class_volumes
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.errors import ServerBusyError, printable
from mixpriv.imaging import inputs
from mixpriv.key import key_path
from tests.cli.running import IN_PROCESS, Run
from tests.support.phantom import write_scan

MIXUP = ("--mode", "mixup")
HOSTILE = "[red]\x1b[31m\nb\u202e\udcff"
ESCAPED = r"[red]\x1b[31m\nb\u202e\udcff"


def client(*arguments: object, first: str = "", **how: Any) -> subprocess.CompletedProcess[str]:
    """Run the client in a process to its end."""
    code = first + "\nimport sys; from mixpriv.cli.client.main import main; sys.exit(main(sys.argv[1:]))"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, text=True, timeout=120, check=False, **streams)


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def closes(*numbers: int) -> Callable[[], None]:
    """For a process that begins without these of its streams."""
    return lambda: [os.close(number) for number in numbers] and None


class TestStreams:
    @pytest.mark.parametrize(
        ("output", "reason"),
        [
            (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device"),
            (closed_pipe, "Broken pipe"),
            (None, "Bad file descriptor"),
        ],
    )
    def test_all_scans_are_done_when_the_standard_output_is_lost(
        self, output: Callable[[], int] | None, reason: str, bundle: Bundle, folder: Path
    ) -> None:
        scans = [write_scan(folder / f"s{n}.nii.gz", seed=n) for n in range(2)]
        how = {"preexec_fn": closes(1)} if output is None else {"stdout": output()}
        done = client("segment", *scans, "--bundle", bundle.directory, *MIXUP, first=IN_PROCESS, **how)
        assert done.returncode == 5
        assert done.stderr == f"mixpriv-client: error: standard output: cannot be written ({reason})\n"
        assert {"s0_dseg.nii.gz", "s1_dseg.nii.gz"} <= {path.name for path in folder.iterdir()}

    def test_a_lost_document_takes_no_report(self, bundle: Bundle, scan: Path, folder: Path) -> None:
        how = {"first": IN_PROCESS, "stdout": os.open("/dev/full", os.O_WRONLY)}
        done = client(
            "segment", scan, "--bundle", bundle.directory, *MIXUP, "--json", "--report", folder / "r.json", **how
        )
        assert (done.returncode, done.stderr.count("\n")) == (5, 1)
        assert json.loads((folder / "r.json").read_text())["scans"][0]["exit_code"] == 0

    @pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["key", "path"]])
    def test_what_tells_something_says_when_it_cannot(self, arguments: list[str]) -> None:
        done = client(*arguments, stdout=os.open("/dev/full", os.O_WRONLY))
        assert (done.returncode, done.stderr.count("\n")) == (5, 1)
        assert "standard output: cannot be written (No space left on device)" in done.stderr

    @pytest.mark.parametrize("closed", [True, False])
    def test_errors_that_nobody_hears_are_in_the_exit_code_alone(
        self, closed: bool, bundle: Bundle, scan: Path, folder: Path
    ) -> None:
        how = {"preexec_fn": closes(2)} if closed else {"stderr": os.open("/dev/full", os.O_WRONLY)}
        arguments = ("segment", folder / "missing.nii", scan, "--bundle", bundle.directory, *MIXUP, "--json")
        done = client(*arguments, first=IN_PROCESS, **how)
        assert done.returncode == 2
        assert [result["exit_code"] for result in json.loads(done.stdout)["scans"]] == [2, 0]

    def test_no_file_takes_the_place_of_a_closed_stream(self, bundle: Bundle, scan: Path, folder: Path) -> None:
        first = IN_PROCESS + "\nimport os, atexit\natexit.register(lambda: [os.write(n, b'library') for n in (1, 2)])"
        how = {"first": first, "preexec_fn": closes(0, 1, 2), "stdout": None, "stderr": None}
        assert client("segment", scan, "--bundle", bundle.directory, *MIXUP, **how).returncode == 5
        assert (folder / "head_dseg.nii.gz").exists()
        assert len(Ledger().entries()) == 1


class TestUser:
    @pytest.fixture
    def nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A user id that the system does not know."""
        import pwd

        def unknown(uid: int) -> None:
            raise KeyError(uid)

        monkeypatch.setattr(pwd, "getpwuid", unknown)
        for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            monkeypatch.delenv(variable, raising=False)

    @pytest.mark.usefixtures("nobody")
    @pytest.mark.parametrize("home", [None, "", "relative"])
    def test_without_a_home(
        self, home: str | None, run: Run, scan: Path, in_process: list[Client], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if home is not None:
            monkeypatch.setenv("HOME", home)
        code, out, err = run(scan)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "no home folder is known: set HOME, or XDG_CONFIG_HOME and XDG_DATA_HOME, to a full path" in err
        assert in_process == []

    @pytest.mark.usefixtures("nobody")
    def test_mode_local_needs_none(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        import nibabel as nib

        voxels = np.random.default_rng(0).uniform(0, 900, (26, 33, 24)).astype(np.float32)
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(folder / "crop.nii.gz")
        assert main(["segment", str(folder / "crop.nii.gz"), "--bundle", "hippocampus", "--mode", "local"]) == 0

    def test_the_systems_home_where_there_is_no_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import pwd

        monkeypatch.delenv("XDG_CONFIG_HOME")
        monkeypatch.setenv("HOME", "")
        assert key_path() == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".config" / "mixpriv" / "client.key"

    @pytest.mark.parametrize(("variable", "what"), [("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data")])
    def test_folders_that_cannot_be_written(
        self, variable: str, what: str, bundle: Bundle, scan: Path, home: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        """Told before a server is started, and before the scan is worked on."""
        (home / "file").touch()
        monkeypatch.setenv(variable, str(home / "file"))
        monkeypatch.setattr("mixpriv.client.pipeline.open_pipeline", None)
        monkeypatch.setattr("mixpriv.server.embedded.embedded_server", None)
        assert main(["segment", str(scan), "--bundle", str(bundle.directory), "--mode", "mixup"]) == 5
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert f"{home}/file/mixpriv: cannot create this private folder (File exists)" in err

    def test_a_ledger_that_cannot_be_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(folder: Path) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(ledgers, "try_to_write", refused)
        with pytest.raises(OSError, match=r"mixpriv: cannot be written \(Permission denied\)"):
            Ledger().check()

    def test_checking_begins_no_ledger(self) -> None:
        Ledger().check()
        assert not ledger_path().exists()
        Ledger().begin()
        Ledger().check()


class TestWorkingFolder:
    def test_relative_names_are_refused_and_full_ones_are_not(
        self, bundle: Bundle, scan: Path, tmp_path: Path, folder: Path
    ) -> None:
        gone = tmp_path / "gone"
        first = IN_PROCESS + f"\nimport os, sys; sys.path.remove(''); gone = {str(gone)!r}\n"
        first += "os.mkdir(gone); os.chdir(gone); os.rmdir(gone)"
        done = client("segment", "scan.nii.gz", "--bundle", bundle.directory, *MIXUP, first=first)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert (
            "scan.nii.gz: the working folder is gone (No such file or directory); expected a full path" in done.stderr
        )
        done = client("segment", scan, "--bundle", bundle.directory, *MIXUP, first=first)
        assert (done.returncode, done.stderr) == (0, "")


class TestNames:
    @pytest.mark.parametrize(
        "arguments",
        [
            [""],
            ["head.nii.gz", "-o", ""],
            ["head.nii.gz", "--save-wire", ""],
            ["head.nii.gz", "--report", ""],
            ["head.nii.gz", "--bundle", ""],
            ["head.nii.gz", "--tls-ca", ""],
            ["head.nii.gz", "--tls-cert", ""],
            ["head.nii.gz", "--tls-key", ""],
            ["head.nii.gz", "--token-file", ""],
            ["a\0b.nii"],
        ],
    )
    def test_empty_ones_are_refused(
        self, arguments: list[str], run: Run, scan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "expected a file or folder, got '" in err
        assert [path.name for path in folder.iterdir()] == ["head.nii.gz"]

    @pytest.mark.parametrize("command", [["key", "export", ""], ["references", "add", "", "b.nii"]])
    def test_empty_ones_of_other_commands(self, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(command) == 2
        assert "expected a file or folder, got ''" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["/", "/.", "/tmp/.."])
    def test_all_there_is_is_no_folder_of_scans(self, name: str, run: Run, scan: Path, folder: Path) -> None:
        code, out, err = run(name, scan, "-o", folder)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "expected a folder of scans, got the whole file system" in err
        assert [path.name for path in folder.iterdir()] == ["head.nii.gz"]

    @pytest.mark.parametrize("name", ["nofolder/head.nii.gz", "head.nii.gz/head.nii.gz"])
    def test_a_wrong_scan_does_not_blame_the_output(self, name: str, run: Run, scan: Path, folder: Path) -> None:
        code, _, err = run(folder / name)
        assert (code, err) == (2, f"mixpriv-client: error: {folder / name}: no such file\n")

    def test_control_characters_do_not_reach_the_terminal(self, run: Run, folder: Path) -> None:
        code, _, err = run(folder / HOSTILE)
        assert (code, err) == (2, f"mixpriv-client: error: {folder}/{ESCAPED}: no such file\n")
        scan = write_scan(folder / f"{HOSTILE[:-1]}.nii.gz")
        code, out, err = run(scan)
        assert (code, out.count("\n"), err) == (0, 1, "")
        assert out.startswith(f"{folder}/{ESCAPED[:-6]}_dseg.nii.gz: ")
        _, out, _ = run(scan, "--force", "--json")
        assert json.loads(out)["scans"][0]["scan"] == str(scan)
        assert all(c == "\n" or (c.isascii() and c.isprintable()) for c in out)

    def test_nor_those_of_options_bundles_and_ledgers(self, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["segment", "a.nii", f"--{HOSTILE}"]) == 2
        assert main(["info", "--bundle", HOSTILE]) == 2
        Ledger().begin()
        with sqlite3.connect(ledger_path()) as db:
            row = (HOSTILE[:-1], HOSTILE[:-1], "b", "m", 1, b"c", b"l", b"k", b"v", "d")
            db.execute(f"INSERT INTO sent ({ledgers._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.close()
        assert main(["ledger"]) == 0
        out, err = capsys.readouterr()
        assert err.count("\n") == 2
        assert out.count("\n") == 2
        assert f"last {ESCAPED[:-6]} to {ESCAPED[:-6]}, b" in out
        assert all(c.isprintable() for c in out.replace("\n", "") + err.replace("\n", ""))

    def test_a_ledger_of_other_kinds_of_values_is_damaged(self, capsys: pytest.CaptureFixture[str]) -> None:
        Ledger().begin()
        with sqlite3.connect(ledger_path()) as db:
            row = ("t", "s", "b", "m", "many", "c", b"l", "k", b"v", "d")
            db.execute(f"INSERT INTO sent ({ledgers._COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.close()
        assert main(["ledger"]) == 2
        assert "ledger.sqlite3: damaged, or not a mixpriv ledger" in capsys.readouterr().err

    def test_a_terminal_shows_them_escaped_and_on_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "stderr", Terminal())
        with shown(f"{HOSTILE}{'n' * 500}", Pace(1)) as progress:
            progress("mix")
        text = sys.stderr.getvalue()
        assert ESCAPED in text
        assert HOSTILE[:10] not in text
        assert "n" * 100 not in text
        assert "b\u202e" not in text

    def test_a_terminal_that_went_away_ends_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Gone(io.StringIO):
            def isatty(self) -> bool:
                return True

            def write(self, text: str) -> int:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", Gone())
        with shown("head.nii.gz", Pace(1)) as progress:
            progress("mix")

    def test_printable_cuts_and_leaves_letters(self) -> None:
        assert printable("Kopf äöü 頭.nii") == "Kopf äöü 頭.nii"
        assert printable("x" * 300) == "x" * 200 + "..."


class TestOutputs:
    """Tried before anything is sent, never overwritten, private where they are what was sent."""

    def test_a_folder_that_takes_no_file(self, run: Run, in_process: list[Client], scan: Path) -> None:
        for options in (("-o", "/sys/out.nii"), ("--save-wire", "/sys/wire"), ("--report", "/sys/r.json")):
            code, _, err = run(scan, *options)
            assert (code, err.count("\n")) == (5, 1)
            assert ": cannot be written (" in err
        assert in_process == []
        assert not ledger_path().exists()

    def test_a_full_disk_is_noticed_before_anything_is_sent(self, bundle: Bundle, scan: Path, folder: Path) -> None:
        first = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**12, 2**12))\n" + IN_PROCESS
        done = client("segment", scan, "--bundle", bundle.directory, *MIXUP, first=first)
        assert (done.returncode, done.stderr.count("\n")) == (5, 1)
        assert "head_dseg.nii.gz: cannot be written (File too large)" in done.stderr
        assert [path.name for path in folder.iterdir()] == ["head.nii.gz"]
        assert not key_path().exists()

    @pytest.mark.parametrize("name", ["r.png", "r.json", "wire/mixture.nii.gz", "wire/request.json"])
    def test_what_came_meanwhile_is_kept(
        self, name: str, run: Run, scan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def count(*arguments: Any) -> object:
            (folder / "wire").mkdir(exist_ok=True)
            (folder / name).write_text("mine")
            return class_volumes(*arguments)

        monkeypatch.setattr(segmentation, "class_volumes", count)
        report = folder / ("r.json" if name == "r.json" else "r.png")
        arguments = (scan, "--report", report, "--save-wire", folder / "wire")
        code, _, err = run(*arguments)
        assert (code, err) == (
            2, f"mixpriv-client: error: {folder / name}: output exists; give --force to overwrite it\n"
        )  # fmt: skip
        assert (folder / name).read_text() == "mine"
        if name.startswith("wire"):
            assert [path.name for path in (folder / "wire").iterdir()] == [Path(name).name]

    def test_what_was_sent_is_for_its_owner_alone(self, run: Run, scan: Path, folder: Path) -> None:
        assert run(scan, "--save-wire", folder / "wire")[0] == 0
        assert stat.S_IMODE((folder / "wire").stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "wire").iterdir()} == {0o600}

    def test_what_was_sent_before_a_request_failed_is_kept(
        self, run: Run, scan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = folder / "whole"
        assert run(scan, "--references", 3, "--save-wire", whole)[0] == 0
        segment, asked = InProcessSegmenter.segment, []

        def third_fails(self: InProcessSegmenter, mixture: np.ndarray) -> np.ndarray:
            asked.append(1)
            if len(asked) == 3:
                raise ServerBusyError("server is busy")
            return segment(self, mixture)

        monkeypatch.setattr(InProcessSegmenter, "segment", third_fails)
        code, _, err = run(scan, "--references", 3, "--save-wire", folder / "wire", "--force")
        assert (code, err) == (3, "mixpriv-client: error: server is busy\n")
        names = {"mixture.nii.gz", "mixture_2.nii.gz", "segmentation_mixture.nii.gz", "segmentation_mixture_2.nii.gz"}
        assert {path.name for path in (folder / "wire").iterdir()} == {*names, "request.json"}
        assert all((folder / "wire" / name).read_bytes() == (whole / name).read_bytes() for name in names)
        assert len(json.loads((folder / "wire" / "request.json").read_text())["requests"]) == 2

    def test_nothing_is_kept_of_what_never_was_answered(
        self, run: Run, scan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(self: InProcessSegmenter, mixture: np.ndarray) -> np.ndarray:
            raise ServerBusyError("server is busy")

        monkeypatch.setattr(InProcessSegmenter, "segment", fails)
        assert run(scan, "--save-wire", folder / "wire")[0] == 3
        assert [path.name for path in folder.iterdir()] == ["head.nii.gz"]


class TestEnds:
    @pytest.mark.parametrize("sent", [signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU])
    def test_other_signals_end_like_sigterm(
        self, sent: signal.Signals, run: Run, scan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cleaned = []

        def load(path: Path, modalities: Sequence[str], series: str | None) -> None:
            try:
                os.kill(os.getpid(), sent)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)  # as a service manager does
                os.kill(os.getpid(), sent)
                cleaned.append(1)

        monkeypatch.setattr(inputs, "load_volume", load)
        with pytest.raises(SystemExit, match=str(128 + sent)):
            run(scan)
        assert cleaned == [1]
        assert [path.name for path in folder.iterdir()] == ["head.nii.gz"]
        assert signal.getsignal(sent) is signal.SIG_DFL

    def test_what_nohup_ignores_stays_ignored(self, run: Run, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        load = inputs.load_volume

        def hang_up(path: Path, modalities: Sequence[str], series: str | None) -> Any:
            os.kill(os.getpid(), signal.SIGHUP)
            return load(path, modalities, series)

        monkeypatch.setattr(inputs, "load_volume", hang_up)
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            assert run(scan)[0] == 0
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_cleaning_up_after_the_work_is_not_disturbed(
        self, run: Run, scan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        segmenter, closed = Client._segmenter, []

        def close() -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            closed.append(1)

        def segmenter_and_close(client: Client) -> Any:
            client._stack.callback(close)
            return segmenter(client)

        monkeypatch.setattr(Client, "_segmenter", segmenter_and_close)
        assert run(scan)[0] == 0
        assert closed == [1]

    def test_no_core_is_dumped(self) -> None:
        first = (
            "import atexit, ctypes, resource\n"
            "atexit.register(lambda: print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3)))\n"
        )
        unlimited = resource.getrlimit(resource.RLIMIT_CORE)[1]
        done = client(
            "key", "path", first=first, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (unlimited,) * 2)
        )
        assert done.stdout.splitlines()[-1] == "0 0"


class TestMemory:
    @pytest.mark.parametrize("gigabytes", [0.2, 1.0])
    @pytest.mark.parametrize("command", [["segment", "a.nii"], ["references", "add", "a.nii", "b.nii"]])
    def test_too_little_is_told_at_once(self, gigabytes: float, command: list[str]) -> None:
        limit = int(gigabytes * 1e9)
        done = client(*command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "MiB of memory, but may use" in done.stderr

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
            RuntimeError("std::bad_alloc"),
            ImportError("x.so: failed to map segment from shared object"),
            RuntimeError("Check 'ptr' failed\nFailed to allocate 17039360 bytes of memory"),
        ],
    )
    def test_a_lack_is_no_bug(self, error: Exception) -> None:
        assert explain(error) == (2, "not enough memory")

    def test_what_fails_near_the_limit_fails_for_it(self) -> None:
        code = (
            "import resource, mmap; from mixpriv.cli.process import explain\n"
            "from mixpriv.errors import InputError\n"
            "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); space = mmap.mmap(-1, 9 * 2**30 // 10)\n"
            "print(explain(IndexError('odd'))); print(explain(InputError('not a network')))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [
            "(2, 'not enough memory: 1024 MiB may be used (ulimit -v)')",
            "(2, 'not a network (memory is short: 1024 MiB may be used (ulimit -v))')",
        ]


class TestSystemErrors:
    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 5, "/a/b: cannot be used (Permission denied)"),
            (OSError(errno.EROFS, "Read-only file system", b"/a"), 5, "/a: cannot be used (Read-only file system)"),
            (OSError(errno.EMFILE, "Too many open files", "/a"), 2, "/a: a limit of this machine is reached (Too many"),
            (RuntimeError("can't start new thread"), 2, "no further thread can be started here"),
            (OSError(errno.EBADF, "Bad file descriptor"), 1, "unexpected OSError, a bug"),
            (ValueError("voxel 12.5"), 1, "unexpected ValueError, a bug"),
        ],
    )
    def test_those_of_the_surroundings_are_named(self, error: Exception, code: int, message: str) -> None:
        got, said = explain(error)
        assert got == code
        assert said.startswith(message)
