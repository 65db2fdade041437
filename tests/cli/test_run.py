"""What a run over many scans tells at its end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mixpriv.cli.client.outputs import Job
from mixpriv.cli.client.run import Run
from mixpriv.client.naming import Outputs


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((0, 2, 2), 2), ((2, 3), 3), ((2, 0, 5, 3), 5), ((1, 2), 1)]
)
def test_what_is_wrong_with_one_scan_yields_to_what_may_be_wrong_with_all(codes: Any, expected: int) -> None:
    """As a server that is gone: the workflow takes 2 for done."""
    jobs = [Job(Path(f"{n}.nii"), Outputs(Path(f"{n}_dseg.nii")), None, None, 1) for n in range(len(codes))]
    results = [{"scan": str(job.scan), "exit_code": code} for job, code in zip(jobs, codes, strict=True)]
    told = [result | ({"error": "why"} if result["exit_code"] else {"skipped": True}) for result in results]
    queue: Any = SimpleNamespace(run=lambda jobs: zip(jobs, told, strict=True), pace=None)
    client: Any = None
    done = Run("mixpriv-client", client)
    done.segment(jobs, queue)
    assert done.end() == expected
