"""From the command line to a verb and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from limner import __version__
from limner.cli import (
    bench,
    cache,
    compare,
    convert,
    edit,
    evaluate,
    listing,
    make,
    quickstart,
    recipes,
    sample,
    scaling,
    study,
    train,
    tune,
    verify,
)
from limner.cli.exit_codes import BROKEN_PIPE, INTERNAL, INTERRUPTED, USAGE
from limner.cli.parser import Parser
from limner.core.errors import LimnerError
from limner.core.heap import keep_freed_memory

VERBS = (
    quickstart,
    make,
    train,
    scaling,
    study,
    tune,
    recipes,
    sample,
    edit,
    evaluate,
    compare,
    convert,
    verify,
    listing,
    bench,
    cache,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; mistakes become one line on standard error.

    Args:
        argv: arguments after the command's name; None: those of the process.

    Returns:
        The exit code, see `limner.cli.exit_codes`.
    """
    on_error = USAGE
    try:
        arguments = build_parser().parse_args(argv)
        on_error = arguments.on_error
        keep_freed_memory()
        _load_plugins(getattr(arguments, "plugin", None))
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except LimnerError as error:
        return _fail(str(error), on_error)
    except KeyboardInterrupt:
        print("limner: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader has gone: what Python flushes at its end must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        hint = "" if _debugging() else " (set LIMNER_DEBUG=1 for the trace)"
        return _fail(f"{type(error).__name__}: {error}{hint}", INTERNAL)


def build_parser() -> Parser:
    """Return the parser of the whole command."""
    parser = Parser(
        prog="limner", description="Autoregressive visual generation, from tokens to pictures."
    )
    parser.add_argument("--version", action="version", version=f"limner {__version__}")
    parser.set_defaults(on_error=USAGE)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        verb.add(verbs)
    return parser


def _load_plugins(files: Sequence[str] | None) -> None:
    """Make what users have registered known, for the verbs that build things."""
    if files is None:
        return
    from limner.core.registry import load_entry_points, load_plugin

    load_entry_points()
    for file in files:
        load_plugin(file)


def _fail(message: str, code: int) -> int:
    if _debugging():
        traceback.print_exc()
    print(f"limner: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _debugging() -> bool:
    return os.environ.get("LIMNER_DEBUG", "") not in ("", "0")
