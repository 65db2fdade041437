"""``mixpriv audit``: what a curious server learns, in numbers, for each mode."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixpriv.cli.options import a_path
from mixpriv.cli.terminal import complain, say
from mixpriv.errors import InputError

if TYPE_CHECKING:
    from mixpriv.audit.cohort import Cohort
    from mixpriv.audit.context import Budget
    from mixpriv.audit.findings import Finding
    from mixpriv.audit.journal import Journal
    from mixpriv.audit.policy import Verdict
    from mixpriv.audit.protected import Images
    from mixpriv.audit.report import Provenance
    from mixpriv.audit.run import Audit
    from mixpriv.audit.simulation import Environment

_DESCRIPTION = (
    "Attack what is sent. 'mixpriv audit --phantoms' needs no data; '--data DIR' takes scans of real people; 'wire DIR "
    "--gallery DIR' takes what --save-wire wrote. Exit codes beside the usual: 6 a figure is above a threshold of the "
    "policy, 7 a control failed and the figures mean nothing."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv``."""
    parser = commands.add_parser("audit", help="attack what is sent, and tell what a server learns",
                                 description=_DESCRIPTION)  # fmt: skip
    parser.add_argument("wire", nargs="*", metavar="wire DIR", help="a folder of --save-wire, or of several of them")
    parser.add_argument("--phantoms", action="store_true", help="synthetic people, scanned twice; no data needed")
    parser.add_argument(
        "--data",
        type=a_path,
        metavar="DIR",
        help="BIDS folder: sub-*/**/*_T1w.nii.gz, _dseg beside it; or MSD folder of crops",
    )
    parser.add_argument("--protected", nargs="+", metavar="NAME=DIR",
                        help="with --data: images that another tool protected, DIR as the data's folder")  # fmt: skip
    parser.add_argument("--quick", action="store_true",
                        help="a look in under 2 minutes: few people, no attack that trains; no verdict")  # fmt: skip
    parser.add_argument("--gallery", type=a_path, metavar="DIR", help="BIDS folder of the people a wire is linked to")
    parser.add_argument("--bundle", default="brain-t1", help="a shipped name or a folder")
    parser.add_argument("--modes", nargs="+", metavar="MODE",
                        help="some of none, mixup, shielded (these), mixup=WEIGHT, warp=MM, "
                             "warp=MM+mixup=WEIGHT, blind")  # fmt: skip
    parser.add_argument("--attacks", nargs="+", metavar="A", help="A1 to A8 (all; A2 and A6 need PyTorch)")
    parser.add_argument("--keys", type=int, metavar="N", help="client keys for each scan (1)")
    parser.add_argument("--subjects", type=int, default=32, metavar="N", help="phantoms: how many people (32)")
    parser.add_argument("--attackers", type=int, metavar="N", help="how many of the people are the attacker's own")
    parser.add_argument("--rescans", type=int, default=2, metavar="N", help="scans of each person in the gallery (2)")
    parser.add_argument("--queries", type=int, metavar="N", help="scans that costly attacks are tried on (8)")
    parser.add_argument("--costly-keys", type=int, metavar="N", help="client keys for each of these scans (1)")
    parser.add_argument("--requests", type=int, nargs="+", metavar="N",
                        help="how many requests of one scan A4 puts together: colluding operators (2 5)")  # fmt: skip
    parser.add_argument("--steps", type=int, metavar="N", help="training steps of A2 and A6 (120)")
    parser.add_argument("--policy", metavar="NAME", help="a TOML file of thresholds, or the shipped one: shielded")
    parser.add_argument("-o", "--output", type=a_path, required=True, metavar="DIR",
                        help="audit.html (with pictures), audit.md, audit.csv; a new folder, or one of an "
                             "audit that was stopped, which goes on")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Audit, write the report, judge by the policy; returns the exit code."""
    from mixpriv.audit.policy import EXIT_THRESHOLDS, judge, load_policy
    from mixpriv.audit.registry import require_extra

    require_extra()
    if sum((bool(args.wire), args.phantoms, args.data is not None)) != 1:
        raise InputError("audit: expected one of --phantoms, --data DIR, and wire DIR")
    thresholds = load_policy(args.policy) if args.policy else []
    if args.quick and (args.wire or thresholds):
        raise InputError("--quick: expected --phantoms or --data, and no policy: it is no verdict")
    if args.protected and args.data is None:
        raise InputError("--protected: expected the originals by --data")
    if args.wire:
        if args.output.exists():
            raise InputError(f"{args.output}: exists; expected a new folder")
        audit, made = _wire(args)
        journal = None
    else:
        audit, made, journal = _people(args)
    verdicts = judge(audit.findings, thresholds)
    _write(args.output, audit, verdicts, made)
    if journal is not None:
        journal.close()
    return 0 if all(verdict.met for verdict in verdicts) else EXIT_THRESHOLDS


def _people(args: argparse.Namespace) -> tuple[Audit, Provenance, Journal]:
    from mixpriv.audit import run as auditing
    from mixpriv.audit.journal import Journal
    from mixpriv.audit.modes import parse_mode
    from mixpriv.audit.registry import attacks, find
    from mixpriv.audit.report import Provenance
    from mixpriv.bundle import load_bundle

    if args.quick:
        _be_quick(args)
    shielded = load_bundle(args.bundle).shielded
    args.modes = args.modes or ["none", "mixup", *(["shielded"] if shielded else [])]
    modes = {text: parse_mode(text) for text in args.modes}
    for mode in modes.values():
        mode.require(load_bundle(args.bundle))
    numbers = args.attacks or list(attacks())
    for number in numbers:
        find(number)  # what is unknown, or cannot be tried here, is told before the work begins
    journal = Journal(args.output, _settings(args, numbers), _tell)
    environment, people, about, protected = _phantoms(args) if args.phantoms else _real(args)
    audit = auditing.run(environment, people, {**modes, **protected}, numbers, _effort(args), journal)
    about += ["A quick look at few people: it is no verdict."] if args.quick else []
    about += [
        f"{len(people.queries)} people attacked, a gallery of {len(people.gallery)} scans of "
        f"{len({visit.subject for visit in people.gallery})} people, {len(people.known)} scans of others to learn from;"
        f" {_effort(args).keys} client keys. Intervals: bootstrap over people, 95 %.",
        "Raw scans (none) must be linked and noise (blind) must not, else there would be no report.",
    ]
    return audit, Provenance("Audit of what the server sees", about, _command(args)), journal


_QUICK = ("A1", "A3", "A4", "A5", "A8")
"""Attacks that take seconds on few people."""

_QUICK_PEOPLE = 12


def _be_quick(args: argparse.Namespace) -> None:
    """Fewer people and requests, and no attack that trains; what was asked for stays."""
    args.attacks = args.attacks or list(_QUICK)
    args.queries, args.requests = args.queries or 4, args.requests or [2]
    args.subjects = min(args.subjects, _QUICK_PEOPLE + 4)


def _settings(args: argparse.Namespace, numbers: Sequence[str]) -> dict[str, Any]:
    """All that the figures depend on."""
    from mixpriv import __version__
    from mixpriv.bundle import load_bundle
    from mixpriv.provenance import commit

    given = {name: value for name, value in vars(args).items() if name not in ("output", "run", "policy")}
    return {
        "version": f"{__version__} {commit()}",
        "fingerprint": load_bundle(args.bundle).fingerprint,
        "attacks": list(numbers),
        "files": [] if args.data is None else _files([args.data, *_named_folders(args.protected or []).values()]),
        **{name: str(value) for name, value in given.items() if name != "attacks"},
    }


def _files(folders: Sequence[Path]) -> list[str]:
    """Names, sizes and times of all images in some folders."""
    found = sorted(path for folder in folders for path in folder.rglob("*.nii*"))
    return [f"{path} {(state := path.stat()).st_size} {state.st_mtime_ns}" for path in found]


def _named_folders(texts: Sequence[str]) -> dict[str, Path]:
    """NAME=DIR of other people's protections."""
    from mixpriv.audit.extensions import protections

    folders: dict[str, Path] = {}
    for text in texts:
        name, _, folder = text.partition("=")
        taken = {"none", "blind", "mixup", "shielded", *protections(), *folders}
        if not name or not folder or name in taken or not Path(folder).is_dir():
            raise InputError(f"--protected: expected NAME=DIR of a folder and a name of its own, got {text!r}")
        folders[name] = Path(folder)
    return folders


def _effort(args: argparse.Namespace) -> Budget:
    from mixpriv.audit.context import Budget

    names = ("keys", "queries", "costly_keys", "steps")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.requests:
        if min(args.requests) < 1:
            raise InputError(f"--requests: expected 1 or more, got {min(args.requests)}")
        given["requests"] = tuple(sorted(set(args.requests)))
    return Budget(**given)


def _phantoms(args: argparse.Namespace) -> tuple[Environment, Cohort, list[str], dict[str, Images]]:
    from mixpriv.audit.phantoms import phantom_cohort, phantom_environment
    from mixpriv.provenance import commit, hardware

    environment = phantom_environment(6.0) if args.quick else phantom_environment()
    attackers = args.subjects // 2 if args.attackers is None else args.attackers
    if not 0 < attackers < args.subjects:
        raise InputError(f"--attackers: expected 1 to {args.subjects - 1}, got {attackers}")
    about = [
        f"Synthetic people, made by code and scanned twice; {environment.spacing_mm:g} mm grid; the server's network "
        f"makes no mistakes. References come from the generator that made the people. Commit {commit()}; {hardware()}."
    ]
    return environment, phantom_cohort(environment, args.subjects, attackers), about, {}


def _real(args: argparse.Namespace) -> tuple[Environment, Cohort, list[str], dict[str, Images]]:
    from mixpriv.audit.cohort import MIRRORED, read_held_out, read_visits, simulate
    from mixpriv.audit.protected import read_protected
    from mixpriv.audit.simulation import Environment, served
    from mixpriv.bundle import load_bundle, require_one_modality
    from mixpriv.bundle_files import require_side
    from mixpriv.engine.in_process import InProcessSegmenter
    from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
    from mixpriv.protection.reference import ReferenceModel
    from mixpriv.provenance import commit, hardware

    bundle = load_bundle(args.bundle)
    require_one_modality(bundle, "audit")
    require_side(bundle, "both")
    model = ReferenceModel.of(bundle)
    environment = Environment(bundle, len(bundle.classes), model, served(InProcessSegmenter(bundle.segmenter_path)))
    preprocess, folders = load_preprocessor(bundle), _named_folders(args.protected or [])
    if not (args.data / "imagesTr").is_dir():
        visits = read_visits(args.data, preprocess, bundle, _QUICK_PEOPLE if args.quick else None)
    elif folders:
        raise InputError(f"{args.data}: expected scans named sub-*/**/*_T1w.nii.gz beside protected images, got crops")
    else:
        visits = read_held_out(args.data, preprocess, bundle)
    protected = {name: read_protected(name, folder, args.data, visits, preprocess) for name, folder in folders.items()}
    people = simulate(visits, args.attackers or 4, args.rescans, as_is=bool(folders))
    mirrored = any(visit.subject.endswith(MIRRORED) for visit in people.gallery)
    made_up = ", and every person's mirror image is another person in the gallery, because there are so few"
    about = [
        f"Commit {commit()}; {hardware()}. Bundle {bundle.name} {bundle.version}. Second visits are real for "
        f"{', '.join(people.repeated) or 'nobody'}; those of the others are simulated from the first (pose, partial "
        f"volume, small distortion, bias, contrast, noise, another edge of the mask){made_up if mirrored else ''}."
    ]
    return environment, people, about, protected


def _wire(args: argparse.Namespace) -> tuple[Audit, Provenance]:
    from mixpriv.audit.report import Provenance
    from mixpriv.audit.wire_audit import audit_wire
    from mixpriv.bundle import load_bundle, require_one_modality
    from mixpriv.imaging.preprocess.preprocessor import load_preprocessor
    from mixpriv.provenance import commit, hardware

    if len(args.wire) != 2 or args.wire[0] != "wire" or args.gallery is None:
        raise InputError("audit wire: expected 'wire DIR --gallery DIR'")
    bundle = load_bundle(args.bundle)
    require_one_modality(bundle, "audit")
    audit, about = audit_wire(Path(args.wire[1]), args.gallery, load_preprocessor(bundle), bundle)
    return audit, Provenance(
        "Audit of what was sent", [*about, f"Commit {commit()}; {hardware()}."], "mixpriv audit wire DIR --gallery DIR"
    )


def _command(args: argparse.Namespace) -> str:
    parts = ["mixpriv audit", "--phantoms" if args.phantoms else "--data DIR", "--modes", *args.modes]
    parts += ["--protected", *(f"{name}=DIR" for name in _named_folders(args.protected))] if args.protected else []
    parts += ["--quick"] if args.quick else []
    if args.attacks:
        parts += ["--attacks", *args.attacks]
    for name in ("keys", "attackers", "queries", "costly_keys", "steps"):
        if getattr(args, name) is not None:
            parts.append(f"--{name.replace('_', '-')} {getattr(args, name)}")
    parts += [f"--requests {' '.join(map(str, args.requests))}"] if args.requests else []
    parts += [f"--subjects {args.subjects}"] if args.phantoms else [f"--rescans {args.rescans}"]
    parts += [f"--policy {Path(args.policy).name}"] if args.policy else []
    return " ".join([*parts, f"-o {args.output.name}"])


def _write(folder: Path, audit: Audit, verdicts: Sequence[Verdict], made: Provenance) -> None:
    from mixpriv.atomic import make_folder, write_file
    from mixpriv.audit.findings import to_csv
    from mixpriv.audit.report import markdown, page

    make_folder(folder)
    write_file(folder / "audit.csv", to_csv(audit.findings).encode())
    write_file(folder / "audit.md", markdown(audit.findings, verdicts, made).encode())
    write_file(folder / "audit.html", page(audit.findings, audit.pictures, verdicts, made).encode())
    _summary(audit.findings, verdicts)


def _summary(findings: Sequence[Finding], verdicts: Sequence[Verdict]) -> None:
    for one in findings:
        if one.attack == "A1" and one.figure == "rank-1, best way":
            say(f"{one.mode}: rank-1 identification rate {one.value:.2f} [{one.low:.2f}, {one.high:.2f}], "
                f"guessing {one.baseline:.3f}")  # fmt: skip
    for verdict in verdicts:
        if not verdict.met:
            say(f"not met: {verdict.finding.mode}, {verdict.finding.attack} {verdict.finding.figure}: "
                f"{verdict.finding.value:.3f}, at most {verdict.limit:.3f}")  # fmt: skip


def _tell(what: str) -> None:
    complain("mixpriv", what)
