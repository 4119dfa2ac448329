"""Replays of metrics of one set: of answers of a classifier, codes, or views."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from limner.metrics.codebook import CodeCounts
from limner.metrics.draws import permutation
from limner.metrics.epipolar import consistency, pixel_intrinsics
from limner.metrics.inception_score import chunks, equal_parts, even_parts, inception_score
from limner.metrics.likelihood import bits_per_dimension
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("evaluation-metrics/is*")
def sureness(case: Case) -> None:
    """Scores of sets divided in three ways, in the order given or shuffled."""
    for name in case.tensors:
        arguments = case.arguments(name)
        if "rng" in arguments:
            case.check(name, permutation(arguments["n"], arguments["rng_seed"]))
        elif "shuffle" in arguments:
            logits = case.input("logits")
            if arguments["shuffle"]:
                logits = logits[permutation(len(logits), arguments["rng_seed"])]
            score = inception_score(logits, _parts(logits, arguments), arguments.get("ddof", 0))
            case.check(name, score.deviation if name.endswith("_std") else score.mean)


def _parts(logits: Tensor, arguments: dict[str, Any]) -> list[int]:
    ways = {"splits": even_parts, "split_size": equal_parts, "chunks": chunks}
    (way,) = ways.keys() & arguments
    return ways[way](len(logits), arguments[way])


@replay("evaluation-metrics/codebook*")
def codebook(case: Case) -> None:
    """Use of a codebook, and bits per dimension of the codes."""
    counts = CodeCounts(case.hyper["codebook_size"])
    counts.update(case.input("ids"))
    use = counts.compute()
    case.check("counts", counts.counts)
    case.check("usage", use.share)
    case.check("perplexity", use.perplexity)
    case.check("entropy_bits", use.entropy)
    dimensions = case.arguments("bits_per_dim")["dims_per_picture"]
    case.check("bits_per_dim", bits_per_dimension(case.input("nll"), dimensions))


@replay("evaluation-metrics/tsed*")
def epipolar(case: Case) -> None:
    """Distances of matching points to each other's lines, and which pairs are consistent."""
    size, given = case.hyper["image_size"], case.arguments("tsed")
    found = consistency(
        case.input("poses"),
        pixel_intrinsics(case.hyper["focal_over_height"], size, size),
        case.input("keypoints_a"),
        case.input("keypoints_b"),
        case.input("valid"),
        given["threshold_error"],
        given["threshold_matches"],
    )
    case.check("sed", found.distances)
    case.check("median", found.medians)
    case.check("consistent", found.consistent)
    case.check("tsed", found.score)
