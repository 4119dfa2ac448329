"""Training a student of Distilled Decoding from its teacher alone (arXiv:2412.17153).

The teacher draws by the usual loop, but every token is the code that its own noise flows to
(`limner.heads.flow_map`). So pairs of noise and tokens need no pictures, and the noise of a pair is
known by its seed. The official training is not released: loss and recipe are limner's choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limner.core.errors import ConfigError, check
from limner.core.files import replaced
from limner.core.generator import Generator
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.noise import SeededNoise
from limner.core.row import Options
from limner.core.tokens import Tokens, empty, stack
from limner.data.endless import EndlessOrder
from limner.decoding import generate
from limner.heads.categorical import CategoricalHead
from limner.heads.flow_map import FlowMap
from limner.heads.guidance import schedule
from limner.hub.build import parameter_count
from limner.hub.save import save_part
from limner.models.distilled_llamagen import DistilledLlamaGen, DistilledLlamaGenConfig
from limner.models.distilled_var import DistilledVAR, DistilledVARConfig
from limner.models.llamagen import LlamaGen
from limner.models.student import Student
from limner.models.var import VAR
from limner.pipeline import Pipeline
from limner.training.engine import Engine
from limner.training.learner import load_weights
from limner.training.measure import held_out_loss
from limner.training.pieces import Share
from limner.training.recipe import DistillationRecipe
from limner.training.run import RunFolder
from limner.training.task import Measured, Piece, Player

AT_ONCE = 16  # rows that a teacher draws together
PAIRS = "pairs.safetensors"


def student_of(teacher: Generator, codes: Tensor, tokens: int, recipe: DistillationRecipe) -> Any:
    """Return a student that begins with its teacher's weights.

    Args:
        codes: float [V, D], what each code says.
        tokens: N, of a picture.

    Raises:
        ConfigError: no student is known of such a teacher, or it cannot jump so.
    """
    shared: dict[str, Any] = {"split": recipe.split, "jumps": recipe.jumps}
    student: Student
    if type(teacher) is VAR:
        student = DistilledVAR(DistilledVARConfig(**vars(teacher.config), **shared))
    elif type(teacher) is LlamaGen:
        shared |= {"latent": codes.shape[1], "tokens": tokens}
        config = DistilledLlamaGenConfig(**vars(teacher.config), **shared)
        student = DistilledLlamaGen(config)
    else:
        kind = type(teacher).__name__
        raise ConfigError(f"teacher={kind} is not accepted: it must be a LlamaGen or a VAR")
    student.start_from(teacher)
    return student


@torch.no_grad()
def teacher_ids(
    teacher: Generator, codes: Tensor, layout: Layout, labels: Tensor, seed: int, options: Options
) -> Tensor:
    """Return the codes that noises flow to, int64 [P, N]; pair i has the noise of seed + i.

    Args:
        codes: float [V, D].
        labels: int64 [P], classes.
        options: of the teacher's draws.
    """
    assert isinstance(teacher.head, CategoricalHead)
    head, drawn = teacher.head, []
    teacher.head = CategoricalHead(head.stages, FlowMap(codes))
    try:
        for index in torch.arange(len(labels)).split(AT_ONCE):
            rows = []
            for number in index.tolist():
                blank = empty(layout, 1, codes=1).to(teacher.device)
                condition = {"label": labels[number : number + 1]}
                rows += teacher.begin(blank, condition, options, SeededNoise(seed + number))
            ids = stack([row.tokens for row in generate(teacher, rows)]).ids
            assert ids is not None
            drawn.append(ids[..., 0].cpu())
    finally:
        teacher.head = head
    return torch.cat(drawn)


class StudentLoss(nn.Module):
    """A student as a function of a piece.

    Args:
        student: whose loss it is.
        codes: float [V, D].
    """

    def __init__(self, student: Student, codes: Tensor) -> None:
        super().__init__()
        self.student = student
        self.codes: Tensor
        self.register_buffer("codes", codes, persistent=False)

    def forward(self, piece: Piece) -> LossBreakdown:
        """Return the loss of pairs; as it is measured outside of training."""
        tokens, condition = piece.content
        rng = piece.rng if self.training else None
        return self.student.loss(tokens, condition, rng, self.codes)


class DistillationTask:
    """A student that learns from its teacher's pairs.

    Args:
        recipe: of the run.
        folder: of the run; the pairs are kept there.
        engine: of the run.
    """

    keeper = None

    def __init__(self, recipe: DistillationRecipe, folder: RunFolder, engine: Engine) -> None:
        self.recipe, self.folder, self.engine = recipe, folder, engine
        self.times_shown = recipe.sample.times if recipe.sample.each else 1
        teacher = Pipeline.from_pretrained(recipe.teacher, device=engine.device)
        tokenizer = teacher.tokenizer
        codes = tokenizer.code_vectors()
        accepted = "a pipeline whose tokenizer decodes vectors (patch-multiscale, llamagen-vq, ...)"
        check(codes is not None and tokenizer.mixes, "teacher", recipe.teacher, accepted)
        assert codes is not None
        self.layout = tokenizer.layout(*teacher.size)
        torch.manual_seed(recipe.seed)
        self.codes = codes.detach().to(engine.device)
        self.network = student_of(teacher.generator, codes, len(self.layout), recipe)
        self.network.to(engine.device)
        self.pipeline = Pipeline(
            *(tokenizer, self.network, teacher.classes, teacher.size),
            defaults=recipe.sample.draw(),
        )
        with engine.main_first():
            self.ids, self.labels = self._pairs(teacher)
        if engine.is_main and not (folder.path / "tokenizer").is_dir():
            save_part(tokenizer, folder.path / "tokenizer")
        loss = StudentLoss(self.network, self.codes)
        self.players: Sequence[Player] = [
            Player("student", self.network, loss, recipe.optimizer, engine)
        ]
        self.share = Share(recipe.budget, recipe.seed, engine)
        self.order = EndlessOrder(recipe.pairs, recipe.seed)

    def _pairs(self, teacher: Pipeline) -> tuple[Tensor, Tensor]:
        """Return the pairs' codes [P, N] and classes [P], drawn unless the folder has them."""
        recipe, path = self.recipe, self.folder.path / PAIRS
        if path.is_file():
            kept = load_file(path)
            return kept["ids"].long(), kept["labels"]
        labels = torch.arange(recipe.pairs + recipe.held_out) % max(1, len(teacher.classes))
        options = Options(
            schedule(teacher.generator.guidance, recipe.guidance),
            top_k=recipe.top_k,
            top_p=recipe.top_p,
        )
        ids = teacher_ids(teacher.generator, self.codes, self.layout, labels, recipe.seed, options)
        with replaced(path) as target:
            save_file({"ids": ids.int(), "labels": labels}, target)
        return ids, labels

    def start(self) -> None:
        """Nothing comes before the first step."""

    def pieces(self, step: int) -> list[Piece]:
        """Return this process's pieces of the batch of a step."""
        index = self.order.take(self.share.first(step), self.share.size)
        return [
            self.share.piece(step, number, self._content(part))
            for number, part in enumerate(index.split(self.share.piece_size))
        ]

    def _content(self, index: Tensor) -> tuple[Tokens, dict[str, Tensor]]:
        """Return pairs as tokens whose values are their noise, and their condition."""
        every, width = torch.arange(len(self.layout)), self.codes.shape[1]
        noise = torch.stack(
            [
                SeededNoise(self.recipe.seed + number).normal("start", every, 0, (width,))
                for number in index.tolist()
            ]
        )
        known = torch.ones(len(index), len(every), dtype=torch.bool)
        ids = self.ids[index].unsqueeze(-1)
        tokens = Tokens(self.layout, ids, noise.to(self.codes.dtype), known)
        condition = {"label": self.labels[index].to(self.engine.device)}
        return tokens.to(self.engine.device), condition

    def after(self, pieces: Sequence[Piece]) -> Mapping[str, float | Tensor]:
        """Nothing follows a step."""
        return {}

    def names(self, step: int) -> list[str]:
        """Return what the pairs of a step's batch are called."""
        batch = self.recipe.budget.batch
        return [f"pair {number}" for number in self.order.take(step * batch, batch).tolist()]

    def measure(self) -> Measured:
        """Measure the loss of held-out pairs."""
        means = self._held_out()
        return Measured(means.pop("loss"), means)

    def _held_out(self) -> dict[str, float]:
        spread, recipe = self.players[0].spread, self.recipe

        def loss(index: Tensor) -> LossBreakdown:
            found: LossBreakdown = spread(
                self.share.piece(0, 0, self._content(index + recipe.pairs))
            )
            return found

        spread.eval()
        with torch.no_grad():
            return held_out_loss(loss, recipe.held_out, recipe.budget.batch, self.engine)

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Write the pipeline with these weights."""
        self.folder.keep_pipeline(self.pipeline, weights)

    def show(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Draw pictures of every class."""
        name = f"samples/step-{step:08}.png"
        self.folder.draw_samples(self.pipeline, self.recipe.sample, self.recipe.seed, name)

    def describe(self) -> str:
        """Return what is trained on what, in a line."""
        return (
            f"{self.recipe.name}: {parameter_count(self.network):,} parameters, "
            f"{self.recipe.pairs:,} pairs of {len(self.layout)} tokens, "
            f"{self.recipe.held_out} held out, on {self.engine.device}"
        )

    def finish(self, draws: bool) -> tuple[Pipeline, dict[str, Any]]:
        """Measure what was kept, and draw with it.

        Returns:
            The kept pipeline and its measurements.
        """
        best = Pipeline.from_pretrained(self.folder.path, device=self.engine.device)
        load_weights(self.network, dict(best.generator.state_dict()))
        metrics = {"parameters": parameter_count(self.network), "held_out": self._held_out()}
        if draws and self.recipe.sample.each and self.engine.is_main:
            self.folder.draw_samples(best, self.recipe.sample, self.recipe.seed, "samples.png")
        return best, metrics

    def result(self, metrics: Mapping[str, Any]) -> str:
        """Return how many held-out tokens are the teacher's."""
        held_out = metrics["held_out"]
        agreed = 100 * (1 - held_out["token_error"])
        return (
            f"held-out tokens that are the teacher's: {agreed:.1f} % (loss {held_out['loss']:.3f})"
        )
