"""`limner eval`: how good drawn pictures are, in numbers that say how they were measured."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any

from limner.cli.exit_codes import INTERRUPTED
from limner.cli.parser import DTYPES, Parser, UsageError, Verbs, add_plugin, one_of
from limner.core.errors import unknown

EXAMPLES = """\
A run draws pictures, which are compared with real ones that it never learned from; or two sets of
pictures are compared. The same command goes on after a stop or a kill.

  limner eval runs/emoji
  limner eval runs/emoji --guidance 2 --samples 10000 --output runs/emoji/eval-guided
  limner eval photos/ drawn/ --size 64
  limner eval videos/ drawn/ --size 64 --frames 16
  limner eval runs/imagenet --features inception --reference VIRTUAL_imagenet256_labeled.npz \\
    --npz samples.npz

The Fréchet distance in limner's own features is called FD. It does not compare with FID, which
needs the weights of the Inception network: --features inception says where to get them.
"""
SPACES = ("packaged", "inception", "i3d")
PARTS = ("held-out", "train", "all")
RULES = ("as-real", "balanced")
SAMPLES = {"packaged": 2000, "inception": 50_000, "i3d": 2048}  # the others as papers have it
DEFAULTS = {
    "features": "packaged",
    "most_real": 50_000,
    "resamples": 100,
    "feature_batch": 64,
}
NO_OPTIONS = ("given", "run", "on_error", "fields", "plugin")
RUN_DEFAULTS = {"seed": 0, "batch": 64, "classifier_steps": 200}
RUN_OPTIONS: dict[str, dict[str, Any]] = {
    "--samples": {
        "type": int,
        "metavar": "N",
        "help": "pictures or clips that are drawn (2000; 50000 for inception, 2048 for i3d)",
    },
    "--set": {
        "type": one_of("part", PARTS),
        "metavar": "PART",
        "help": "the evaluation set: held-out pictures of the run's data (default), train, or all",
    },
    "--real": {"metavar": "SOURCE", "help": "another evaluation set: pictures, or an .npz file"},
    "--reference": {
        "metavar": "FILE.npz",
        "help": "another evaluation set: statistics, as ADM's references hold them",
    },
    "--asked": {
        "type": one_of("rule", RULES),
        "metavar": "RULE",
        "help": "classes as often as in the evaluation set (as-real), or all equally (balanced)",
    },
    "--seed": {"type": int, "metavar": "N", "help": "of the first picture (0), then N + 1"},
    "--batch": {"type": int, "metavar": "N", "help": "pictures drawn at once (64)"},
    "--pictures": {
        "metavar": "DIR",
        "help": "folder of samples, that several evaluations may share (OUTPUT/samples)",
    },
    "--npz": {"metavar": "FILE.npz", "help": "also write all samples, for ADM's evaluator"},
    "--classifier-steps": {
        "type": int,
        "metavar": "N",
        "help": "of the classifier that looks for the class asked for (200); 0: none",
    },
    "--dtype": {
        "type": one_of("dtype", DTYPES),
        "metavar": "TYPE",
        "help": "of the generator's weights (as saved)",
    },
    "--text-encoder": {"metavar": "DIR", "help": "T5 or CLIP weights, where needed"},
    "--guidance": {"type": float, "metavar": "S", "help": "this and the next as `limner sample`"},
    "--temperature": {"type": float, "metavar": "T"},
    "--top-k": {"type": int, "metavar": "K"},
    "--top-p": {"type": float, "metavar": "P"},
    "--min-p": {"type": float, "metavar": "P"},
    "--steps": {"type": int, "metavar": "N"},
}


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser: Parser = verbs.add_parser(
        "eval",
        help="measure how good drawn pictures are",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="limner eval RUN [options] [--data.FIELD VALUE ...]\n"
        "       limner eval REAL FAKE [options]",
        fields=True,
    )
    parser.add_argument(
        "given",
        nargs="+",
        metavar="RUN | REAL FAKE",
        help="a trained pipeline; or two sets: folders, tables, shards, .npz files, ...",
    )
    parser.add_argument(
        "--features",
        type=one_of("feature space", SPACES),
        metavar="NAME",
        help="packaged (limner's own small network), inception (FID, sFID, Inception Score) or, of "
        "clips, i3d (FVD)",
    )
    parser.add_argument("--weights", metavar="FILE", help="of the Inception or I3D network")
    parser.add_argument("--size", type=int, metavar="N", help="real pictures become N x N squares")
    parser.add_argument("--frames", type=int, metavar="N", help="clips of N frames are measured")
    parser.add_argument(
        "--stride", type=int, metavar="N", help="of real clips: 2 takes every other frame"
    )
    parser.add_argument(
        "--most-real", type=int, metavar="N", help="at most so many real pictures (50000)"
    )
    parser.add_argument(
        "--resamples", type=int, metavar="N", help="of the bootstrap of the intervals (100)"
    )
    parser.add_argument(
        "--feature-batch", type=int, metavar="N", help="pictures a pass of the features (64)"
    )
    parser.add_argument("--output", metavar="DIR", help="folder (RUN/eval; eval)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, mps, ... (the fastest)")
    add_plugin(parser)
    group = parser.add_argument_group("of runs")
    for option, details in RUN_OPTIONS.items():
        group.add_argument(option, **details)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw what is missing, measure, and say where the page is."""
    if len(arguments.given) > 2:
        raise UsageError(f"{len(arguments.given)} arguments are too many: give RUN, or REAL FAKE")
    check_fields(arguments)
    of_run = len(arguments.given) == 1
    if not of_run:
        forbid_run_options(arguments)
    fill(arguments, DEFAULTS | (RUN_DEFAULTS if of_run else {}))
    if of_run:
        fill(arguments, {"samples": SAMPLES[arguments.features]})
        if arguments.real is None and arguments.reference is None:
            fill(arguments, {"set": PARTS[0]})
    command = command_of(arguments)

    from limner.cli.evaluating import evaluate_run, evaluate_sets, report

    try:
        evaluated = (evaluate_run if of_run else evaluate_sets)(arguments, command)
    except KeyboardInterrupt:
        print("limner: interrupted: the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return report(evaluated, arguments)


def check_fields(arguments: argparse.Namespace) -> None:
    """Raise if an option is neither known nor a field of the run's data."""
    for name in arguments.fields:
        if not name.startswith("data."):
            known = [option_of(each) for each in vars(arguments) if each not in NO_OPTIONS]
            raise unknown("option of `limner eval`", option_of(name), known, UsageError)


def forbid_run_options(arguments: argparse.Namespace) -> None:
    """Raise UsageError if something was given that only runs have."""
    names = [option.removeprefix("--").replace("-", "_") for option in RUN_OPTIONS]
    given = [option_of(name) for name in names if getattr(arguments, name) is not None]
    given += [option_of(name) for name in arguments.fields]
    if given:
        raise UsageError(f"{given[0]} is not accepted: it is of `limner eval RUN` alone")


def fill(arguments: argparse.Namespace, defaults: dict[str, Any]) -> None:
    """Give arguments that were left out their values, so that the command says them."""
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


def command_of(arguments: argparse.Namespace) -> str:
    """Return the command with every setting, which does the same later."""
    words = ["limner", "eval", *arguments.given]
    options = {n: value for n, value in vars(arguments).items() if n not in NO_OPTIONS}
    for name, value in (options | arguments.fields).items():
        if value is not None:
            words += [option_of(name), str(value)]
    for file in arguments.plugin:
        words += ["--plugin", file]
    return shlex.join(words)


def option_of(name: str) -> str:
    """Return how a user writes an argument or a field."""
    return f"--{name}" if name.startswith("data.") else f"--{name.replace('_', '-')}"
