"""Drawing tokens by NAR under classes, beside the raster model of equal size.

Ours against ours: NAR draws a diagonal a step, 2n - 1 passes for n x n tokens (arXiv:2503.10696);
LlamaGen of the same letter draws one token a pass. Both by the same pipeline and settings, on
random weights. Tokens and pixels are timed apart.
"""

from __future__ import annotations

from dataclasses import replace

from limner.bench.counting import counted
from limner.bench.drawing import Drawing, counting, large, random_labels
from limner.bench.settings import Settings
from limner.bench.subject import Candidate, Subject
from limner.bench.work import Work
from limner.core.registry import MODELS, TOKENIZERS
from limner.pipeline import Pipeline
from limner.pipeline.compilation import compile_blocks
from limner.tokenizers.llamagen_vq import LlamaGenVQ

GUIDANCE, TOP_K = 4.0, 2000
SIDE, FACTOR = 16, 16  # tokens along each side of a picture; pixels of a token


def raster_name(settings: Settings) -> str:
    """Return the raster model of equal size.

    Raises:
        ConfigError: there is none.
    """
    return MODELS.get_variant(settings.model.replace("nar-", "llamagen-", 1)).name


def drawing(settings: Settings, model: str) -> Drawing:
    """Return what draws by a model."""
    generator = MODELS.create(model).eval()
    if settings.compile:
        compile_blocks(generator, dynamic=True)
    config = TOKENIZERS.get_variant("llamagen-vq-16").config
    pixels = LlamaGenVQ(replace(config, codebook_size=generator.config.codebook_size))
    classes = random_labels(settings, generator.config.classes)
    pipeline = Pipeline(pixels, generator, size=(SIDE * FACTOR, SIDE * FACTOR)).to(settings.device)
    return Drawing(pipeline, classes=classes.tolist(), guidance=GUIDANCE, top_k=TOP_K)


def ours(settings: Settings) -> Candidate:
    """Return NAR's side."""
    return counting(drawing(settings, settings.model))


def baseline(settings: Settings) -> Candidate:
    """Return the raster model's side."""
    return counting(drawing(settings, raster_name(settings)))


def work(settings: Settings) -> Work:
    """Return what NAR computes."""
    drawn = drawing(replace(settings, compile=False), settings.model)
    return counted(drawn, reads=large(drawn.pipeline.generator))


SUBJECT = Subject(
    ours,
    None,
    work,
    tokens=lambda settings: SIDE**2 * settings.batch,
    baseline=baseline,
    name=raster_name,
)
