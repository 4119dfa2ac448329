"""Drawing by a trained next-scale pipeline that keeps a share of its keys and values (ScaleKV).

Ours against ours, as a picture of random weights says nothing: `model` is a pipeline's folder,
`share` what is kept (arXiv:2505.19602). Bytes of keys and values, and how near the pictures come to
those drawn with all of them, are told beside the times.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from limner.bench.counting import counted
from limner.bench.drawing import Drawing, large
from limner.bench.settings import Settings
from limner.bench.subject import Candidate, Subject
from limner.bench.subjects.speculate_pipeline import asked, target
from limner.bench.work import Work
from limner.metrics.pixels import psnr


def ours(settings: Settings) -> Candidate:
    """Return the side that keeps a share."""
    drawn = _bounded(settings)

    def facts() -> dict[str, float]:
        drawn()
        assert drawn.result is not None and drawn.result.cache is not None
        use, within = drawn.result.cache, _pictures(drawn)
        drawn(cache=None)
        return {
            "bytes of keys and values": use.bytes,
            "PSNR to all, in dB": float(psnr(within, _pictures(drawn)).mean()),
        }

    return Candidate(drawn, facts=facts)


def baseline(settings: Settings) -> Candidate:
    """Return the side that keeps all; what that takes is told by drawing within a budget."""
    drawn = asked(settings, target(settings))

    def facts() -> dict[str, float]:
        bounded = _bounded(settings)
        bounded()
        assert bounded.result is not None and bounded.result.cache is not None
        return {"bytes of keys and values": bounded.result.cache.whole}

    return Candidate(drawn, facts=facts)


def _bounded(settings: Settings) -> Drawing:
    drawn = asked(settings, target(settings))
    drawn.asked["cache"] = settings.share
    return drawn


def _pictures(drawn: Drawing) -> Tensor:
    assert drawn.result is not None
    return drawn.result.pictures


def work(settings: Settings) -> Work:
    """Return what drawing within the budget computes."""
    drawn = _bounded(replace(settings, compile=False))
    return counted(drawn, reads=large(drawn.pipeline.generator))


SUBJECT = Subject(ours, None, work, baseline=baseline, name=lambda settings: "all of them kept")
