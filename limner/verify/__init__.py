"""Replays of reference cases: proof that limner computes what the published systems compute.

A case is a folder with `config.json`, `io.safetensors` and usually `weights.safetensors`; see
`limner.verify.case`. A replay is a short function that feeds a case to the product.

`limner verify` computes with the same bits on every processor (see `limner.cli.verify`). A program
that calls `verify` itself gets them by `MKL_CBWR=COMPATIBLE` in its environment.
"""

from limner.verify.case import Case, CaseError
from limner.verify.registry import replay
from limner.verify.runner import Report, verify

__all__ = ["Case", "CaseError", "Report", "replay", "verify"]
