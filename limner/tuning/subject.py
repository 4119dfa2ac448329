"""Learning a subject from a few pictures (ARBooth, arXiv:2504.02612)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limner.conditions import TextFeatures
from limner.conditions.t5 import T5TextEncoder
from limner.core.errors import ConfigError, DataError, check
from limner.core.generator import Generator
from limner.core.head import LossBreakdown
from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.order import Partition
from limner.core.request import Request
from limner.core.row import Condition, Options
from limner.core.tokens import Tokens, empty, from_ids, stack
from limner.data import PictureSet, load_pictures, open_source
from limner.data.endless import EndlessOrder
from limner.decoding import generate
from limner.decoding.teaching import packed_as_drawn
from limner.heads.distillation import hard_distance, soft_distance
from limner.hub.build import parameter_count
from limner.hub.save import save_part
from limner.models.arbooth import ARBooth, Layers, counted, scale_weights
from limner.pipeline import Pipeline
from limner.show.grid import contact_sheet
from limner.show.png import save_png
from limner.training.engine import Engine
from limner.training.loop import train
from limner.training.pieces import Share
from limner.training.progress import Progress
from limner.training.run import Run, RunFolder
from limner.training.task import Measured, Piece, Player
from limner.tuning.recipe import PriorRecipe, SubjectRecipe

LEAST = 2  # pictures of a subject
MEASURED = 4  # pictures of its kind, on which the distance from the generator as it was is measured
SHOWN = 4


def tune_subject(recipe: SubjectRecipe, progress: Progress | None = None) -> Run:
    """Teach a pipeline a subject; what comes out is a pipeline.

    Args:
        recipe: of the run.
        progress: see `limner.training.train`.

    Raises:
        LimnerError: the recipe cannot be followed, or a loss is not finite or diverges.
    """
    check_enough(recipe.data.source, len(open_source(recipe.data.source)))
    return train(recipe, progress, task=SubjectTask)


class SubjectLoss(nn.Module):
    """What is learned of a piece: the subject, or what the generator was like before.

    Args:
        student: that learns.
        weight: float [N], how much each token of the subject's pictures counts; None: all alike.
        prior: how the generator as it was is kept.
    """

    def __init__(self, student: ARBooth, weight: Tensor | None, prior: PriorRecipe) -> None:
        super().__init__()
        self.student = student
        self.weight = weight
        self.prior = prior

    def forward(self, piece: Piece) -> LossBreakdown:
        """Return the loss of (tokens, condition), or of (tokens, condition, teacher's logits)."""
        tokens, condition, *teacher = piece.content
        if teacher:
            total = self.prior.weight * self.distance(tokens, condition, teacher[0])
            return LossBreakdown(total, {"prior_loss": total.detach()})
        loss = self.of_subject(tokens, condition, piece.rng if self.training else None)
        return LossBreakdown(loss, {"subject_loss": loss.detach()})

    def of_subject(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> Tensor:
        """Return the loss of pictures of the subject, float []."""
        if self.weight is None:
            return self.student.loss(tokens, condition, rng).total
        return counted(self.student.loss(tokens, condition, rng, self.weight), self.weight).total

    def distance(self, tokens: Tokens, condition: Condition, teacher: Tensor) -> Tensor:
        """Return how far the student is from the teacher's logits [B, N, ...], float []."""
        logits = self.student(packed_as_drawn(self.student, tokens, condition), NoMemory())
        if self.prior.kind == "hard":
            return hard_distance(logits, teacher, self.student.head)
        return soft_distance(logits, teacher, self.prior.temperature)


class SubjectTask:
    """A generator that learns a subject.

    Args:
        recipe: of the run.
        folder: of the run.
        engine: of the run.

    Raises:
        ConfigError: a pipeline that cannot be tuned, or not in this way.
        DataError: fewer than two pictures.
    """

    keeper = None
    times_shown = 1

    def __init__(self, recipe: SubjectRecipe, folder: RunFolder, engine: Engine) -> None:
        self.recipe, self.folder, self.engine = recipe, folder, engine
        self.share = Share(recipe.budget, recipe.seed, engine)
        self.before = before = load_before(recipe, engine.device)
        self.teacher = before.generator.requires_grad_(False)
        pictures = subject_pictures(recipe, before)
        self.keys = pictures.keys
        torch.manual_seed(recipe.seed)
        self.network = subject_student(recipe, before).to(engine.device)
        self.pipeline = _with_subject(before, self.network)
        self.tuned = self.network.tuned(recipe.layers or usual_layers(self.network))
        self.network.requires_grad_(False)
        for weight in self.tuned.values():
            weight.requires_grad_(True)
        self.shown = pictures.to_float()
        with torch.no_grad():
            self.tokens = before.tokenizer.encode(self.shown.to(engine.device))
        loss = SubjectLoss(self.network, self._weight(), recipe.prior)
        player = Player("generator", self.network, loss, recipe.optimizer, engine)
        self.players: Sequence[Player] = [player]
        self.loss = loss
        self.order = EndlessOrder(len(pictures), recipe.seed)
        self.kind = self._draw_kind(min(MEASURED, recipe.budget.batch), recipe.seed)
        if engine.is_main:
            save_part(before.tokenizer, folder.path / "tokenizer")

    def start(self) -> None:
        """Nothing comes before the first step."""

    def pieces(self, step: int) -> list[Piece]:
        """Return this process's pieces: of the subject, or by turns of its kind."""
        share, kept = self.share, self.recipe.prior.weight > 0
        if kept and step % 2:
            pieces = [share.piece(step, number, None) for number in range(share.pieces)]
            for piece in pieces:
                seed = int(torch.randint(2**31, (), generator=piece.rng))
                piece.content = self._draw_kind(share.piece_size, seed)
            return pieces
        turn = step // 2 if kept else step
        chosen = self.order.take(share.first(turn), share.size).split(share.piece_size)
        return [
            share.piece(step, number, self._subject(part)) for number, part in enumerate(chosen)
        ]

    def after(self, pieces: Sequence[Piece]) -> Mapping[str, float | Tensor]:
        """Nothing follows a step."""
        return {}

    def names(self, step: int) -> list[str]:
        """Return what the pictures of the subject are called."""
        return list(self.keys)

    @torch.no_grad()
    def measure(self) -> Measured:
        """Measure the loss on all pictures, and the distance from the generator as it was."""
        self.players[0].spread.eval()
        subject = float(self.loss.of_subject(*self._subject(torch.arange(len(self.tokens)))))
        prior = float(self.loss.distance(*self.kind))
        parts = {"subject_loss": subject, "prior_distance": prior}
        return Measured(subject + self.recipe.prior.weight * prior, parts)

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Write the pipeline with these weights."""
        self.folder.keep_pipeline(self.pipeline, weights)

    def show(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Nothing is shown on the way."""

    def describe(self) -> str:
        """Return what is tuned on what, in a line."""
        tuned = sum(weight.numel() for weight in self.tuned.values())
        return (
            f"{self.recipe.name}: {tuned:,} of {parameter_count(self.network):,} parameters, "
            f"{len(self.tokens)} pictures of {self.recipe.word}, on {self.engine.device}"
        )

    def finish(self, draws: bool) -> tuple[Pipeline, dict[str, Any]]:
        """Measure what was kept, and draw the subject below its pictures.

        Returns:
            The kept pipeline and its measurements.
        """
        kept = Pipeline.from_pretrained(
            self.folder.path, device=self.engine.device, text_encoder=self.pipeline.text_encoder
        )
        self.network.load_state_dict(kept.generator.state_dict())
        measured = self.measure()
        metrics = {
            "parameters": parameter_count(self.network),
            "tuned": sum(weight.numel() for weight in self.tuned.values()),
            "pictures": len(self.tokens),
            **measured.parts,
        }
        if draws and self.engine.is_main:
            asked = _asked(self.recipe, kept, True)
            by = {name: [value] * SHOWN for name, value in asked.items()}
            drawn = kept(by.get("classes"), by.get("prompts")).pictures
            sheet = contact_sheet(torch.cat([self.shown[:SHOWN], drawn]), SHOWN)
            save_png(sheet, self.folder.path / "samples.png", {"word": self.recipe.word})
        return kept, metrics

    def result(self, metrics: Mapping[str, Any]) -> str:
        """Return both measurements."""
        return (
            f"loss of the subject {metrics['subject_loss']:.3f}, distance of its kind from before "
            f"{metrics['prior_distance']:.4f}"
        )

    def _weight(self) -> Tensor | None:
        recipe, layout = self.recipe, self.tokens.layout
        weight = scale_weights(layout, recipe.full_scales, recipe.later_weight)
        if bool((weight == 1).all()) or len(layout.segments) == 1:
            return None
        name = type(self.teacher).__name__
        check(
            self.network.grows, "later_weight", recipe.later_weight, f"1: {name} weighs no scales"
        )
        return weight.to(self.engine.device)

    def _subject(self, index: Tensor) -> tuple[Tokens, Condition]:
        """Return the subject's pictures at int64 [B], and what they are asked by."""
        assert self.tokens.ids is not None
        tokens = from_ids(self.tokens.layout, self.tokens.ids[index.to(self.tokens.ids.device)])
        return tokens, self._condition(self.pipeline, True, len(index))

    @torch.no_grad()
    def _draw_kind(self, count: int, seed: int) -> tuple[Tokens, Condition, Tensor]:
        """Return what the generator as it was draws of the kind, and its logits."""
        prior, teacher = self.recipe.prior, self.teacher
        condition = self._condition(self.before, False, count)
        options = Options(temperature=prior.draw_temperature, top_p=prior.draw_top_p)
        blank = empty(self.tokens.layout, 1, self.pipeline.tokenizer.codes, device=teacher.device)
        rows = []
        for index in range(count):
            own = {name: value[index : index + 1] for name, value in condition.items()}
            rows += teacher.begin(blank.clone(), own, options, SeededNoise(seed + index))
        tokens = stack([row.tokens for row in generate(teacher, rows)])
        logits = teacher(packed_as_drawn(teacher, tokens, condition), NoMemory())
        return tokens, condition, logits

    def _condition(self, pipeline: Pipeline, subject: bool, count: int) -> Condition:
        asked = _asked(self.recipe, pipeline, subject)
        request = Request(
            count,
            labels=[asked["classes"]] * count if "classes" in asked else None,
            prompts=[asked["prompts"]] * count if "prompts" in asked else None,
            encoder=pipeline.text_encoder,
        )
        condition = pipeline.generator.condition.ask(request)
        return {name: value.to(self.engine.device) for name, value in condition.items()}


def load_before(recipe: SubjectRecipe, device: torch.device) -> Pipeline:
    """Return the pipeline that is tuned.

    Raises:
        ConfigError: one that cannot be.
    """
    encoder = None
    if recipe.text_encoder is not None:
        encoder = T5TextEncoder(recipe.text_encoder, device=device)
    pipeline = Pipeline.from_pretrained(recipe.pipeline, device=device, text_encoder=encoder)
    generator, tokenizer = pipeline.generator, pipeline.tokenizer
    name = type(generator).__name__
    if isinstance(generator, ARBooth):
        raise ConfigError(
            f"pipeline={recipe.pipeline!r} is not accepted: it knows a subject already"
        )
    blank = empty(tokenizer.layout(*pipeline.size), 1, tokenizer.codes, tokenizer.width)
    order = generator.order(blank, Options(), SeededNoise(0)) if tokenizer.codes else None
    if not isinstance(order, Partition):
        raise ConfigError(
            f"pipeline={recipe.pipeline!r} is not accepted: {name} does not draw codes or bits in "
            "an order that is known before"
        )
    return pipeline


def subject_pictures(recipe: SubjectRecipe, pipeline: Pipeline) -> PictureSet:
    """Return the pictures of a subject, at the pipeline's size.

    Raises:
        DataError: there are fewer than two, or they cannot be read.
    """
    height, width = pipeline.size
    check(height == width, "size", pipeline.size, "square, for tuning")
    pictures = load_pictures(recipe.data.source, height)
    check_enough(recipe.data.source, len(pictures))
    return pictures


def check_enough(source: str, pictures: int) -> None:
    """Raise DataError unless there are two pictures of a subject."""
    if pictures < LEAST:
        raise DataError(
            f"{source!r} holds {pictures} picture of the subject: {LEAST} or more are needed, and "
            "3 to 6 that differ are best"
        )


def subject_student(recipe: SubjectRecipe, pipeline: Pipeline) -> ARBooth:
    """Return a generator that knows a subject, as the pipeline's is, and nothing of the subject."""
    generator, by_class = pipeline.generator, "classes" in _asked(recipe, pipeline, False)
    condition: Any = generator.condition
    if isinstance(condition, TextFeatures):
        size = recipe.rows, condition.features
    else:
        with torch.no_grad():
            size = tuple(condition.prefix(condition.ask(Request(1))).shape[1:])
    kind = pipeline.class_number(recipe.kind) if by_class else None
    return ARBooth.around(generator, recipe.word, size, kind)


def usual_layers(generator: ARBooth) -> tuple[Layers, ...]:
    """Return the layers that are tuned where nothing is said: cross-attention is not everywhere."""
    crossed = any(hasattr(block, "cross") for block in generator.blocks)
    return ("cross-attention", "mlp") if crossed else ("mlp",)


def _asked(recipe: SubjectRecipe, pipeline: Pipeline, subject: bool) -> dict[str, Any]:
    """Return how a picture of the subject, or of its kind, is asked for: by class or by prompt.

    Raises:
        ConfigError: the pipeline can be asked by neither, or has no such class.
    """
    by = pipeline.generator.condition.by
    if "class" in by and (recipe.kind in pipeline.classes or "prompt" not in by):
        number = pipeline.class_number(recipe.kind)
        return {"classes": len(pipeline.classes) - 1 if subject else number}
    if "prompt" not in by:
        raise ConfigError(f"pipeline={recipe.pipeline!r} is not accepted: it is asked by nothing")
    name = f"{recipe.word} {recipe.kind}" if subject else recipe.kind
    return {"prompts": f"a photo of {name}"}


def _with_subject(before: Pipeline, student: Generator) -> Pipeline:
    """Return a pipeline with a student; by class, the subject is one more class."""
    assert isinstance(student, ARBooth)
    after = before.with_generator(student)
    if student.config.kind is not None:
        known = student.condition.inner.classes
        if len(after.classes) != known:
            raise ConfigError(f"the pipeline names {len(after.classes)} of its {known} classes")
        after.classes = (*after.classes, student.config.word)
    return after
