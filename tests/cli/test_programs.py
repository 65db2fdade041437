"""What all programs have in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mixpriv import __version__
from mixpriv.bundle import Bundle
from mixpriv.cli.process import explain

MISSING = """
import importlib.util, sys
missing, find_spec = {}, importlib.util.find_spec
class Missing:
    def find_spec(self, name, *arguments):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
importlib.util.find_spec = lambda name, *package: None if name in missing else find_spec(name, *package)
"""
PROGRAMS = {"mixpriv": "research", "mixpriv-bids": "bids", "mixpriv-client": "client", "mixpriv-server": "server"}


def run(program: str, *arguments: object, without: str = "", **how: object) -> subprocess.CompletedProcess[str]:
    """Run a program in a process; packages may be missing there."""
    code = (
        f"{MISSING.format(without.split())}"
        f"from mixpriv.cli.{PROGRAMS[program]}.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    return subprocess.run(command, text=True, timeout=60, check=False, **streams)  # type: ignore[call-overload]


@pytest.mark.parametrize("program", PROGRAMS)
class TestEvery:
    def test_tells_its_version(self, program: str) -> None:
        done = run(program, "--version")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{program} {__version__}\n", "")

    @pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
    def test_prints_completion(self, program: str, shell: str) -> None:
        done = run(program, "--print-completion", shell)
        assert (done.returncode, done.stderr) == (0, "")
        assert program in done.stdout
        assert "bundle" in done.stdout
        if shell == "bash":
            assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0

    def test_says_when_nobody_can_read_it(self, program: str) -> None:
        for option in (["--version"], ["--help"], ["--print-completion", "bash"]):
            done = run(program, *option, stdout=os.open("/dev/full", os.O_WRONLY))
            assert (done.returncode, done.stderr.count("\n")) == (5, 1)
            assert done.stderr.startswith(f"{program}: error: standard output: cannot be written")

    @pytest.mark.parametrize("arguments", [["--nosuch"], ["nosuch"], ["--print-completion", "fish"]])
    def test_refuses_what_it_does_not_know_in_a_line(self, program: str, arguments: list[str]) -> None:
        done = run(program, *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith(f"{program}: error: ")


def test_bash_completes_files_and_options() -> None:
    script = run("mixpriv-client", "--print-completion", "bash").stdout
    ask = (
        "\nCOMP_WORDS=(mixpriv-client segment --{word}); COMP_CWORD=2; COMP_LINE='mixpriv-client segment --{word}'\n"
        "COMP_POINT=${{#COMP_LINE}}; _shtab_mixpriv_client; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(
        ["bash", "-c", script + ask.format(word="ref")], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.stdout.split() == ["--references", "--references-from"]
    assert "_segment___save_wire_COMPGEN=_shtab_compgen_files" in script


class TestWithoutAnExtra:
    """One line that names it."""

    @pytest.mark.parametrize(
        ("arguments", "missing", "said"),
        [
            (["train", "brain-t1", "--data", ".", "-o", "out"], "torch", "torch is not installed here: pip install"),
            (["pack", "brain-t1", "--segmenter-run", ".", "--version", "1", "-o", "out"], "torch", "mixpriv[train]"),
            (["export", "brain-t1", "--target", "tensorrt", "-o", "out"], "tensorrt tensorrt_bindings", "extra [gpu]"),
            (["audit", "--phantoms", "--attacks", "A2", "-o", "out"], "torch", "[train]"),
        ],
        ids=lambda value: value[0] if isinstance(value, list) else "",
    )
    def test_of_research(self, arguments: list[str], missing: str, said: str, tmp_path: Path) -> None:
        done = run("mixpriv", *arguments, without=missing, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert said in done.stderr
        assert list(tmp_path.iterdir()) == []

    def test_of_a_server(self, bundle: Bundle, scan: Path) -> None:
        of_the_client = ("segment", scan, "--mode", "mixup", "--bundle", bundle.directory)
        for program, arguments in (("mixpriv-server", ("--port", "0")), ("mixpriv-client", of_the_client)):
            done = run(program, *arguments, without="pytriton tritonserver")
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), done.stderr
            assert "pip install 'mixpriv[server]'" in done.stderr

    def test_another_module_that_is_missing_is_a_bug(self) -> None:
        missing = ModuleNotFoundError("No module named 'mixpriv.nosuch'", name="mixpriv.nosuch")
        assert explain(missing)[0] == 1
        deeper = ModuleNotFoundError("No module named 'torch.nosuch'", name="torch.nosuch")
        assert explain(deeper) == (2, "torch.nosuch is not installed here: pip install 'mixpriv[train]'")
