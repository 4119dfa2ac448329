"""Drawing by a student of Distilled Decoding in one step, beside its teacher.

Ours against ours, on random weights: passes and time do not depend on them (arXiv:2412.17153).
`drawing_steps` asks the student for more jumps. The teacher draws under guidance, as it is taught
from; the student has learned its guidance. Tokens and pixels are timed apart.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from limner.bench.counting import counted
from limner.bench.drawing import Drawing, counting, large, random_labels
from limner.bench.settings import Settings
from limner.bench.subject import Candidate, Subject
from limner.bench.work import Work
from limner.core.registry import MODELS, TOKENIZERS
from limner.pipeline import Pipeline
from limner.pipeline.compilation import compile_blocks

TOKENIZERS_OF = {"llamagen": "llamagen-vq-16", "var": "var-vqvae"}  # by the teacher's system
GUIDANCE, SIDE = 4.0, 256  # of the teacher; pixels of a picture


def teacher_name(settings: Settings) -> str:
    """Return the name of a student's teacher.

    Raises:
        ConfigError: there is none.
    """
    return MODELS.get_variant(settings.model.removeprefix("distilled-")).name


def drawing(settings: Settings, model: str) -> Drawing:
    """Return what draws by a student or a teacher."""
    with torch.random.fork_rng([]):
        generator = MODELS.create(model).eval()
        pixels = TOKENIZERS.create(TOKENIZERS_OF[teacher_name(settings).split("-")[0]])
    if settings.compile:
        compile_blocks(generator, dynamic=True)
    classes = random_labels(settings, generator.config.classes)
    how = {"guidance": GUIDANCE} if model == teacher_name(settings) else {}
    if model == settings.model:
        how["steps"] = settings.drawing_steps or 1
    pipeline = Pipeline(pixels, generator, size=(SIDE, SIDE)).to(settings.device)
    return Drawing(pipeline, classes=classes.tolist(), **how)


def ours(settings: Settings) -> Candidate:
    """Return the student's side."""
    return counting(drawing(settings, settings.model))


def baseline(settings: Settings) -> Candidate:
    """Return the teacher's side."""
    return counting(drawing(settings, teacher_name(settings)))


def work(settings: Settings) -> Work:
    """Return what the student computes."""
    drawn = drawing(replace(settings, compile=False), settings.model)
    return counted(drawn, reads=large(drawn.pipeline.generator))


SUBJECT = Subject(ours, None, work, baseline=baseline, name=teacher_name)
