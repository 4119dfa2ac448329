"""Training a generator on tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limner.conditions.text_encoders import load_text_encoder
from limner.core.errors import ConfigError
from limner.core.generator import Generator
from limner.core.head import LossBreakdown
from limner.core.registry import MODELS
from limner.core.seeds import seeded
from limner.data.endless import EndlessOrder
from limner.hub.build import parameter_count
from limner.pipeline import Pipeline
from limner.pipeline.compilation import compile_blocks
from limner.training.engine import Engine
from limner.training.examples import Examples, examples_of
from limner.training.growth import scales_learned, token_weights
from limner.training.learner import load_weights
from limner.training.measure import baselines, held_out_loss
from limner.training.parts import build_part, start_from_codes
from limner.training.pieces import Share
from limner.training.prepare import Prepared, prepare
from limner.training.recipe import Recipe
from limner.training.run import RunFolder
from limner.training.task import Measured, Piece, Player


class GeneratorLoss(nn.Module):
    """A generator as a function of a piece.

    Args:
        generator: whose loss it is.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, piece: Piece) -> LossBreakdown:
        """Return the loss of tokens and condition; as it is measured outside of training."""
        tokens, condition, *weight = piece.content
        return self.generator.loss(tokens, condition, piece.rng if self.training else None, *weight)


class GeneratorTask:
    """A generator that learns from tokenised pictures.

    Args:
        recipe: of the run.
        folder: of the run.
        engine: of the run.
    """

    keeper = None

    def __init__(self, recipe: Recipe, folder: RunFolder, engine: Engine) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.folder = folder
        self.engine = engine
        self.data: Prepared = prepare(recipe, folder.path, engine)
        self.times_shown = recipe.sample.times if recipe.sample.each else 1
        named = recipe.text_encoder
        self.encoder = None if named is None else load_text_encoder(named)
        torch.manual_seed(recipe.seed)
        self.network: Generator = build_part(MODELS, recipe.model, self.data.facts())
        if recipe.growth is not None and not self.network.grows:
            raise ConfigError(
                f"growth={recipe.growth} is not accepted: {type(self.network).__name__} does not "
                "learn scale by scale"
            )
        if recipe.start_from_codes and recipe.model.weights is None:
            start_from_codes(self.network, self.data.tokenizer, seeded(recipe.seed, "codes"))
        size = (recipe.data.size, recipe.data.size)
        self.pipeline = Pipeline(
            self.data.tokenizer,
            self.network,
            self.data.classes,
            size,
            self.encoder,
            styles=self.data.train.styles,
            defaults=recipe.sample.draw(),
            frames=recipe.data.frames or None,
        )
        conditioner, data, layout = self.network.condition, self.data, self.data.layout
        self.train = examples_of(data.train_tokens, data.train, layout, conditioner, self.encoder)
        self.held_out = examples_of(
            data.held_out_tokens, data.held_out, layout, conditioner, self.encoder
        )
        if recipe.compile:
            compile_blocks(self.network)
        loss = GeneratorLoss(self.network)
        player = Player("generator", self.network, loss, recipe.optimizer, engine)
        self.players: Sequence[Player] = [player]
        self.share = Share(recipe.budget, recipe.seed, engine)
        self.order = EndlessOrder(len(self.train), recipe.seed)

    def start(self) -> None:
        """Nothing comes before the first step."""

    def pieces(self, step: int) -> list[Piece]:
        """Return this process's pieces of the batch of a step."""
        index = self.order.take(self.share.first(step), self.share.size)
        weight = self._weight(step)
        return [
            self.share.piece(step, number, (*self.train.take(part, self.engine.device), *weight))
            for number, part in enumerate(index.split(self.share.piece_size))
        ]

    def _weight(self, step: int) -> list[Tensor]:
        """Return how much each token counts at a step, float [N]; nothing where all are alike."""
        growth, optimizer, layout = self.recipe.growth, self.recipe.optimizer, self.data.layout
        if growth is None:
            return []
        used = self.recipe.budget.share(step, 0.0)
        scales, finest = scales_learned(growth, len(layout.segments), used, optimizer.warmup)
        return [token_weights(layout, scales, finest).to(self.engine.device)]

    def after(self, pieces: Sequence[Piece]) -> Mapping[str, float | Tensor]:
        """Nothing follows a step."""
        return {}

    def names(self, step: int) -> list[str]:
        """Return what the pictures of a step's batch are called."""
        batch = self.recipe.budget.batch
        return self.train.names(self.order.take(step * batch, batch))

    def measure(self) -> Measured:
        """Measure the loss of held-out pictures."""
        means = self.loss_of(self.held_out)
        return Measured(means.pop("loss"), means)

    def loss_of(self, examples: Examples, weight: Tensor | None = None) -> dict[str, float]:
        """Return the mean loss of examples and of its parts, see `held_out_loss`.

        Args:
            weight: float [N], how much each token counts; None: all alike.
        """
        spread = self.players[0].spread
        weights = [] if weight is None else [weight.to(self.engine.device)]

        def loss(index: Tensor) -> LossBreakdown:
            content = (*examples.take(index, self.engine.device), *weights)
            loss: LossBreakdown = spread(self.share.piece(0, 0, content))
            return loss

        spread.eval()
        return held_out_loss(loss, len(examples), self.recipe.budget.batch, self.engine)

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Write the pipeline with these weights."""
        self.folder.keep_pipeline(self.pipeline, weights)

    def show(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Draw pictures of every class with these weights."""
        name = f"samples/step-{step:08}.png"
        pipeline = self.pipeline if self.engine.ranks == 1 else self._copy(weights)
        self.folder.draw_samples(pipeline, self.recipe.sample, self.recipe.seed, name)

    def describe(self) -> str:
        """Return what is trained on what, in a line."""
        return (
            f"{self.recipe.name}: {parameter_count(self.network):,} parameters, "
            f"{len(self.train):,} examples of {len(self.data.layout)} tokens, "
            f"{len(self.held_out)} held out, on {self.engine.device}"
            + (f" and {self.engine.ranks - 1} more" if self.engine.ranks > 1 else "")
        )

    def finish(self, draws: bool) -> tuple[Pipeline, dict[str, Any]]:
        """Measure what was kept, and draw with it.

        Returns:
            The kept pipeline and its measurements.
        """
        best = Pipeline.from_pretrained(
            self.folder.path, device=self.engine.device, text_encoder=self.encoder
        )
        load_weights(self.network, dict(best.generator.state_dict()))
        wrong = self.held_out.told.shuffled(seeded(self.recipe.seed, "shuffled condition"))
        codes = best.tokenizer.codebook_size
        metrics = {
            "parameters": parameter_count(self.network),
            "held_out": self.loss_of(self.held_out),
            "held_out_with_shuffled_condition": self.loss_of(self.held_out.retold(wrong)),
            "baseline_bits_per_token": baselines(self.train, self.held_out, codes),
        }
        layout = self.data.layout
        scales = len(layout.segments)
        if self.network.grows and scales > 1:
            finest = (layout.segment_of() == scales - 1).float()
            metrics["held_out_last_scale"] = self.loss_of(self.held_out, finest)
        sample = self.recipe.sample
        if draws and sample.each and self.engine.is_main:
            self.folder.draw_samples(best, sample, self.recipe.seed, "samples.png")
        return best, metrics

    def result(self, metrics: Mapping[str, Any]) -> str:
        """Return held-out bits per token beside the baselines, or the held-out loss."""
        held_out = metrics["held_out"]
        bits = held_out.get("bits_per_token")
        measured = f"loss {held_out['loss']:.3f}" if bits is None else f"{bits:.3f} bits/token"
        beside = [
            f"{name} {value:.3f}" for name, value in metrics["baseline_bits_per_token"].items()
        ]
        return f"held-out {measured}" + (f" ({', '.join(beside)})" if beside else "")

    def _copy(self, weights: Mapping[str, Tensor]) -> Pipeline:
        """A pipeline of this process's own: a spread network answers all processes at once."""
        network = build_part(MODELS, self.recipe.model, self.data.facts()).to(self.engine.device)
        load_weights(network, weights)
        return self.pipeline.with_generator(network)
