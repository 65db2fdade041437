"""The workflow over many machines, on this one; and the descriptors by which others run the BIDS App."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mixpriv.cli.bids.main import make_parser
from tests.support.phantom import write_reference_model, write_scan
from tests.support.toybundle import write_toy_bundle

WORKFLOW = Path(__file__).parents[2] / "workflow"

pytestmark = pytest.mark.skipif(not WORKFLOW.is_dir(), reason="workflow/ is not beside these tests")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="Snakemake is not installed: pip install snakemake")
def test_a_dataset_by_batches_with_a_broken_scan(tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "bundle")
    write_reference_model(bundle)
    for n in range(3):
        folder = tmp_path / "ds" / f"sub-{n}" / "anat"
        folder.mkdir(parents=True)
        write_scan(folder / f"sub-{n}_T1w.nii.gz", seed=n)
    (tmp_path / "ds" / "sub-1" / "anat" / "sub-1_T1w.nii.gz").write_text("broken")
    out = tmp_path / "out"
    settings = [f"bids_dir={tmp_path / 'ds'}", f"out_dir={out}", "batch=2", f"options=--bundle {bundle.directory}"]
    command = [
        "snakemake",
        "-s",
        WORKFLOW / "Snakefile",
        "-d",
        tmp_path / "work",
        "--cores",
        "2",
        "--config",
        *settings,
    ]
    command.append(f"program={sys.executable} -m mixpriv.cli.bids")
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t")[3] for line in (out / "group_T1w.tsv").read_text().splitlines()]
    assert rows == ["result", "done", "missing", "done"]
    logs = "".join(path.read_text() for path in (out / "logs").glob("*.log"))
    assert "1 of 2 scans failed" in logs


def test_the_descriptor_names_options_that_there_are() -> None:
    descriptor = json.loads((WORKFLOW / "boutiques.json").read_text())
    known = {option for action in make_parser()._actions for option in action.option_strings}
    assert {i["command-line-flag"] for i in descriptor["inputs"] if "command-line-flag" in i} <= known
    keys = re.findall(r"\[[A-Z_]+\]", descriptor["command-line"])
    assert keys == [i["value-key"] for i in descriptor["inputs"]]
    invocation = json.loads((WORKFLOW / "nipoppy-invocation.json").read_text())
    assert set(invocation) <= {i["id"] for i in descriptor["inputs"]}


def test_the_job_is_one_for_kubernetes() -> None:
    import kubernetes_validate
    import yaml

    job = yaml.safe_load((WORKFLOW / "kubernetes-job.yaml").read_text())
    kubernetes_validate.validate(job, "1.32", strict=True)
    (script,) = job["spec"]["template"]["spec"]["containers"][0]["args"]
    make_parser().parse_args(script.partition("||")[0].split()[1:])


@pytest.mark.skipif(shutil.which("bosh") is None, reason="Boutiques is not installed: pip install boutiques")
def test_boutiques_takes_the_descriptor() -> None:
    told = subprocess.run(["bosh", "validate", WORKFLOW / "boutiques.json"], capture_output=True, text=True, timeout=60)
    assert told.stdout.strip() == "OK", told.stdout + told.stderr
