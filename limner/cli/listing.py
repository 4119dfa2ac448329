"""`limner models` and `limner tokenizers`: what can be built by name, with parameter counts."""

from __future__ import annotations

import argparse
import json

from limner.cli.parser import Verbs, add_plugin


def add(verbs: Verbs) -> None:
    """Add both verbs."""
    for kind in ("models", "tokenizers"):
        parser = verbs.add_parser(kind, help=f"list the {kind} that are known by name")
        parser.add_argument("--json", action="store_true", help="as JSON")
        add_plugin(parser)
        parser.set_defaults(run=run, kind=kind)


def run(arguments: argparse.Namespace) -> int:
    """List."""
    from limner.hub.listing import as_json, list_models, list_tokenizers

    rows = {"models": list_models, "tokenizers": list_tokenizers}[arguments.kind]()
    if arguments.json:
        print(json.dumps(as_json(rows), indent=2))
        return 0
    verdicts = {True: "ok", False: "differs", None: ""}
    table = [("name", "family", "parameters", "published", "")]
    table += [
        (
            row.name,
            row.family,
            f"{row.parameters:,}",
            _grouped(row.published or "-"),
            verdicts[row.matches],
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(4)]
    for name, family, parameters, published, verdict in table:
        line = (
            f"{name:{widths[0]}}  {family:{widths[1]}}  {parameters:>{widths[2]}}  "
            f"{published:>{widths[3]}}  {verdict}"
        )
        print(line.rstrip())
    return 0


def _grouped(published: str) -> str:
    """Return a count with its digits in threes, where it is published to the last one."""
    return f"{int(published):,}" if published.isdecimal() else published
