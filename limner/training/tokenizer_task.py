"""Training a tokenizer on pictures: an autoencoder, a discriminator, and codes that stay alive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from limner.core.errors import ConfigError, check
from limner.core.head import LossBreakdown
from limner.core.registry import TOKENIZERS
from limner.core.seeds import seeded
from limner.core.tokenizer import Tokenizer
from limner.data.images import to_float
from limner.data.source import collect
from limner.hub.build import parameter_count
from limner.hub.save import load_part, save_part
from limner.metrics.codebook import CodeCounts
from limner.metrics.pixels import psnr, ssim
from limner.show.grid import contact_sheet
from limner.show.png import save_png
from limner.tokenizers.objective import Objective
from limner.tokenizers.quantizers.upkeep import Upkeep
from limner.tokenizers.reconstruction import Trainable
from limner.training.engine import Engine
from limner.training.feed import Feed
from limner.training.measure import shared_means
from limner.training.parts import build_part
from limner.training.perceptual import perceptual_network
from limner.training.pieces import Share
from limner.training.prepare import layout_of, split
from limner.training.recipe import TokenizerRecipe
from limner.training.run import RunFolder
from limner.training.task import Measured, Piece, Player

MOST_MEASURED = 2048  # held-out pictures, at the end
MEASURED = 256  # on the way
VECTORS_A_CODE = 32  # that codes are started from


@dataclass(eq=False)
class Seen:
    """What the players share of a piece.

    Args:
        pictures: float [n, 3, H, W], or clips [n, T, 3, H, W].
        shown: their reconstructions, detached.
        vectors: what was quantised.
        ids: what it became.
    """

    pictures: Tensor
    shown: Tensor | None = None
    vectors: Tensor | None = None
    ids: Tensor | None = None


class AutoencoderLoss(nn.Module):
    """A tokenizer as a function of a piece.

    Args:
        tokenizer: that learns.
        objective: its losses; the discriminator there is not trained by them.
    """

    def __init__(self, tokenizer: Tokenizer, objective: Objective) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        # in a tuple: its weights are the other player's
        self._objective = (objective,)

    def forward(self, piece: Piece) -> LossBreakdown:
        """Return the loss; the piece then holds what was shown and quantised."""
        seen, (objective,) = piece.content, self._objective
        tokenizer = cast(Trainable, self.tokenizer)
        made = tokenizer.reconstruct(seen.pictures, piece.rng)
        seen.shown, seen.vectors, seen.ids = made.pictures.detach(), made.vectors, made.ids
        # smaller pictures count like the whole, but for the discriminator: it needs some size
        codes = made.loss.new_zeros(())
        smaller = [objective.plain_loss(like, shown, codes).total for shown, like in made.smaller]
        pictures, shown = frames_of(seen.pictures), frames_of(made.pictures)
        if objective.plays(piece.step):
            with _frozen(objective.discriminator):
                whole = objective.autoencoder_loss(
                    pictures, shown, made.loss, tokenizer.last_layer, piece.step
                )
        else:
            whole = objective.plain_loss(pictures, shown, made.loss)
        return LossBreakdown(sum(smaller, start=whole.total), whole.parts)


class DiscriminatorLoss(nn.Module):
    """A discriminator as a function of a piece.

    Args:
        objective: that it belongs to.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.discriminator = objective.discriminator
        self._objective = (objective,)

    def forward(self, piece: Piece) -> LossBreakdown:
        """Return the loss on real pictures and on what the autoencoder showed."""
        seen, (objective,) = piece.content, self._objective
        assert seen.shown is not None
        pictures, shown = frames_of(seen.pictures), frames_of(seen.shown)
        return LossBreakdown(objective.discriminator_loss(pictures, shown, piece.step), {})


class TokenizerTask:
    """A tokenizer that learns from pictures.

    Args:
        recipe: of the run.
        folder: of the run.
        engine: of the run.

    Raises:
        ConfigError: a tokenizer that cannot be trained, or not in this way.
    """

    def __init__(self, recipe: TokenizerRecipe, folder: RunFolder, engine: Engine) -> None:
        whole = recipe.parallel == "ddp" or engine.ranks == 1
        check(whole, "parallel", recipe.parallel, "'ddp' for tokenizers, which are small")
        self.recipe = recipe
        self.folder = folder
        self.engine = engine
        self.times_shown = recipe.evaluations
        torch.manual_seed(recipe.seed)
        self.network: Tokenizer = build_part(TOKENIZERS, recipe.tokenizer, {})
        if not hasattr(self.network, "reconstruct"):
            raise ConfigError(
                f"{type(self.network).__name__} cannot be trained by a recipe of its own: it is "
                "fitted in passing, or its training is not known"
            )
        self.trainable = cast(Trainable, self.network)
        self.objective = Objective(recipe.objective, perceptual_network(recipe.perceptual))
        self.objective.to(engine.device)
        quantizer = self.trainable.quantizer
        self.upkeep = None if quantizer is None else Upkeep(quantizer, recipe.upkeep)
        self.keeper = None if self.upkeep is None else self.upkeep.to(engine.device)
        self.players = self._players()
        self.share = Share(recipe.budget, recipe.seed, engine)
        self.layout = layout_of(self.network, recipe.data)  # raises where sizes do not fit
        train, held_out = split(recipe.data)
        self.feed = Feed(train, recipe.data, recipe.seed, self.share)
        step = 1 + len(held_out) // MOST_MEASURED
        chosen = held_out.at(range(0, len(held_out), step))
        self.held_out = collect(chosen, recipe.data.size, recipe.data.unreadable)
        self.pictures = len(train)

    def start(self) -> None:
        """Start the codes from vectors of many pictures."""
        if self.upkeep is None:
            return
        if self.recipe.tokenizer.weights is not None:
            self.upkeep.started.fill_(True)
            return
        quantizer = self.trainable.quantizer
        assert quantizer is not None
        wanted = 1 + VECTORS_A_CODE * quantizer.codebook_size // len(self.layout)
        vectors, ids = [], []
        self.network.eval()
        with torch.no_grad():
            for levels in self.feed.first(wanted).split(self.share.piece_size):
                made = self.trainable.reconstruct(to_float(levels).to(self.engine.device))
                assert made.vectors is not None and made.ids is not None
                vectors.append(made.vectors.flatten(0, -2))
                ids.append(
                    made.ids.reshape(len(vectors[-1]), *made.ids.shape[made.vectors.dim() - 1 :])
                )
        rng = seeded(self.recipe.seed, "start")
        self.upkeep.update(quantizer, torch.cat(vectors), torch.cat(ids), rng)

    def pieces(self, step: int) -> list[Piece]:
        """Return this process's pieces of the batch of a step."""
        made = []
        for number, levels in enumerate(self.feed.pieces(step)):
            piece = self.share.piece(step, number, None)
            pictures = to_float(self.feed.augment(levels, piece.rng))
            piece.content = Seen(pictures.to(self.engine.device))
            made.append(piece)
        return made

    def after(self, pieces: Sequence[Piece]) -> Mapping[str, float | Tensor]:
        """Keep the codes alive."""
        quantizer = self.trainable.quantizer
        if self.upkeep is None or quantizer is None:
            return {}
        vectors = self.engine.joined(torch.cat([piece.content.vectors for piece in pieces]))
        ids = self.engine.joined(torch.cat([piece.content.ids for piece in pieces]))
        rng = seeded(self.recipe.seed, "upkeep", pieces[0].step)
        self.upkeep.update(quantizer, vectors, ids, rng)
        used = len(ids.unique()) / min(quantizer.codebook_size, ids.numel())
        return {"codes_in_batch": used}

    def names(self, step: int) -> list[str]:
        """Return what the pictures of a step's batch are called."""
        return self.feed.names(step)

    def measure(self) -> Measured:
        """Measure held-out pictures against their reconstructions.

        The loss is the absolute error of pixels and the weighted perceptual distance.
        """
        return self._measured(self._spread_index(MEASURED))

    def _measured(self, chosen: Tensor) -> Measured:
        """Measure the held-out pictures at int64 [n]."""
        weight = self.recipe.objective.perceptual
        layout = self.layout
        codes = self.network.codebook_size
        counts = [CodeCounts(codes) for _ in layout.segments] if codes else []

        def measure(index: Tensor) -> dict[str, float]:
            pictures = self.held_out.to_float(chosen[index]).to(self.engine.device)
            tokens = self.network.encode(pictures)
            shown = self.network.decode(tokens)
            for segment, each in enumerate(counts):
                assert tokens.ids is not None
                each.update(tokens.ids[:, layout.span(segment)].cpu())
            baseline = _baseline(pictures)
            pictures, shown = frames_of(pictures), frames_of(shown)
            looks = self.objective.distances(pictures, shown).mean()
            error = (pictures - shown).abs().mean()
            pictures, shown = pictures.float().cpu(), shown.float().cpu()
            return {
                "loss": float(error + weight * looks),
                "error": float(error),
                "perceptual": float(looks),
                "psnr": float(psnr(shown, pictures).mean()),
                "ssim": float(ssim(shown, pictures).mean()),
                **baseline,
            }

        self.network.eval()
        batch = self.share.piece_size
        means = shared_means(measure, len(chosen), batch, self.engine)
        return Measured(means.pop("loss"), means | self._usage(counts))

    def _usage(self, counts: Sequence[CodeCounts]) -> dict[str, float]:
        """Return the use of the codes counted by scale: by all scales, and by each of several."""
        if not counts:
            return {}
        for each in counts:
            each.counts = self.engine.total(each.counts).cpu()
        whole = CodeCounts(self.network.codebook_size)
        whole.counts = torch.stack([each.counts for each in counts]).sum(0)
        used = whole.compute()
        parts = {"usage": used.share, "perplexity": used.perplexity}
        if len(counts) > 1:
            parts |= {f"usage_scale_{k}": each.compute().share for k, each in enumerate(counts, 1)}
        return parts

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Write the tokenizer with these weights."""
        self.folder.keep_tokenizer(self.network, weights)

    def show(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Write held-out pictures above their reconstructions."""
        self._show(self.network, f"samples/step-{step:08}.png")

    def describe(self) -> str:
        """Return what is trained on what, in a line."""
        noun = "clips" if self.recipe.data.frames else "pictures"
        counts = f"{self.pictures:,} {noun}, {len(self.held_out):,} held out"
        return (
            f"{self.recipe.name}: {parameter_count(self.network):,} parameters, {counts}, "
            f"on {self.engine.device}"
        )

    def finish(self, draws: bool) -> tuple[Tokenizer, dict[str, Any]]:
        """Measure what was kept, and show it.

        Returns:
            The kept tokenizer and its measurements.
        """
        folder = self.folder.path / "tokenizer"
        kept: Tokenizer = load_part(folder, TOKENIZERS, device=self.engine.device)
        self.network.load_state_dict(kept.state_dict())
        calibrate = getattr(kept, "calibrate", None)  # continuous tokens have a scale
        if calibrate is not None and "scale" not in self.recipe.tokenizer.config:
            calibrate(self._some(64).to(self.engine.device))
            if self.engine.is_main:
                save_part(kept, folder)
        measured = self._measured(torch.arange(len(self.held_out)))
        if draws and self.engine.is_main:
            self._show(kept, "samples.png")
        held_out = {"loss": measured.loss, **measured.parts}
        return kept, {"parameters": parameter_count(kept), "held_out": held_out}

    def result(self, metrics: Mapping[str, Any]) -> str:
        """Return held-out quality and use of the codes."""
        held_out = metrics["held_out"]
        text = f"held-out PSNR {held_out['psnr']:.2f} dB, SSIM {held_out['ssim']:.3f}"
        if "psnr_mean_frame" in held_out:
            text += f" (the mean frame repeated: {held_out['psnr_mean_frame']:.2f} dB)"
        if "usage" in held_out:
            text += (
                f", {held_out['usage']:.0%} of codes used (perplexity {held_out['perplexity']:.0f})"
            )
        return text

    def _players(self) -> list[Player]:
        recipe, objective = self.recipe, self.objective
        loss = AutoencoderLoss(self.network, objective)
        players = [Player("autoencoder", self.network, loss, recipe.optimizer, self.engine)]
        if recipe.objective.adversarial:
            network = objective.discriminator
            other = DiscriminatorLoss(objective)
            since, learns = recipe.objective.start, recipe.discriminator
            players.append(Player("discriminator", network, other, learns, self.engine, since))
        return players

    def _show(self, tokenizer: Tokenizer, name: str) -> None:
        pictures = self._some(self.recipe.shown)
        shown = tokenizer.there_and_back(pictures)
        across = min(8, len(pictures)) if pictures.dim() == 4 else 1  # of a clip, all its frames
        rows = [pair for part in zip(pictures.split(across), shown.split(across)) for pair in part]
        sheet = contact_sheet(torch.cat(rows), across)
        save_png(sheet, self.folder.path / name, {"recipe": self.recipe.name})

    def _some(self, count: int) -> Tensor:
        """Evenly spread held-out pictures, at most so many, float [n, (T,) 3, H, W]."""
        return self.held_out.to_float(self._spread_index(count))

    def _spread_index(self, count: int) -> Tensor:
        """Which pictures are evenly spread over those held out, at most so many, int64 [n]."""
        total = len(self.held_out)
        return torch.linspace(0, total - 1, min(count, total)).long()


def frames_of(pictures: Tensor) -> Tensor:
    """Return clips [B, T, C, H, W] as pictures [B T, C, H, W], and pictures as they are."""
    return pictures.flatten(0, -4)


def _baseline(pictures: Tensor) -> dict[str, float]:
    """Return what a clip's mean frame reaches, repeated; nothing for pictures."""
    if pictures.dim() == 4:
        return {}
    still = pictures.mean(dim=1, keepdim=True).expand_as(pictures)
    quality = psnr(frames_of(still).float().cpu(), frames_of(pictures).float().cpu())
    return {"psnr_mean_frame": float(quality.mean())}


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Leave a network out of the gradients of what is computed inside."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
