"""`limner cache`: what a budget for keys and values saves, and what it changes in pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from limner.cli.asking import add_asking, asked_together, pictures_asked, settings_given
from limner.cli.parser import UsageError, Verbs, add_dtype, add_plugin

MOST = 64  # pictures drawn together


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "cache",
        help="bound the memory of next-scale models, and see what it changes",
        description="Draw pictures twice, with all keys and values and within a budget (ScaleKV), "
        "and compare: `limner cache runs/var --cache 0.1 --class cat dog`. With --drafters, layers "
        "that look far back are found on these pictures and given more; --save keeps that budget "
        "for `limner sample --cache FILE`.",
    )
    parser.add_argument("pipeline", metavar="PIPELINE", help="a folder, or user/name on the hub")
    add_asking(parser)
    budget = parser.add_argument_group("budget (beside --cache)")
    budget.add_argument(
        "--drafters", type=int, metavar="N", help="pairs of a layer and a scale that keep more"
    )
    budget.add_argument(
        "--decay", type=float, default=0.0, metavar="N", help="entries the others lose a scale (0)"
    )
    budget.add_argument("--save", metavar="FILE", help="write the budget found by --drafters")
    parser.add_argument(
        "--output", default="cache.png", metavar="FILE", help="both drawings (%(default)s)"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, mps, ... (the fastest)")
    parser.add_argument(
        "--text-encoder", metavar="DIR", help="T5 or CLIP weights, for models that read them"
    )
    add_dtype(parser, "of the generator's weights (default: as saved)")
    add_plugin(parser)
    parser.set_defaults(run=run, batch=MOST)


def run(arguments: argparse.Namespace) -> int:
    """Draw twice and compare.

    Raises:
        UsageError: no budget is given, or options that need another.
    """
    if arguments.cache is None:
        raise UsageError("--cache is missing: say which share of keys and values is kept, 0.1 say")
    if arguments.save is not None and arguments.drafters is None:
        raise UsageError("--save is not accepted: it keeps what --drafters finds")
    if arguments.drafters is not None and not isinstance(arguments.cache, float):
        raise UsageError("--drafters is not accepted: --cache names a budget that is found already")
    settings = settings_given(arguments)
    budget = settings.pop("cache")
    asked = {**asked_together(pictures_asked(arguments)), **settings}

    import torch

    from limner.cli.pipelines import load
    from limner.cli.table import print_table
    from limner.pipeline.cache import write_budget
    from limner.pipeline.cache_study import plan_budget, study_cache
    from limner.show import contact_sheet, save_png

    loaded = load(arguments.pipeline, arguments.device, arguments.dtype, arguments.text_encoder)
    if arguments.drafters is not None:
        budget = plan_budget(loaded.pipeline, budget, arguments.drafters, arguments.decay, **asked)
    if arguments.save is not None:
        write_budget(budget, arguments.save)
        print(arguments.save)
    study = study_cache(loaded.pipeline, budget, **asked)
    use = study.use
    print(f"keys and values: {use.bytes:,} of {use.whole:,} bytes ({use.share:.1%})")
    rows = [
        [str(number), f"{float(psnr):.2f}", f"{float(changed):.1%}"]
        for number, (psnr, changed) in enumerate(zip(study.psnr, study.changed, strict=True))
    ]
    print_table(["picture", "PSNR to the whole, dB", "tokens changed"], rows)
    both = torch.cat([study.whole.pictures, study.within.pictures])
    save_png(contact_sheet(both, len(study.whole.pictures)), Path(arguments.output))
    print(arguments.output)
    return 0
