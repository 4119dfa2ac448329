"""Continuous speculative decoding: a small model drafts several steps, a large one checks them.

Wang et al., "Continuous Speculative Decoding for Autoregressive Image Generation",
arXiv:2411.11925; facts from spec_decode/spec_decode_runner.py of MarkXCloud/CSpD.

One step of `Speculative` is one pass of the target, so it is drawn by the usual loop: the head lets
the draft run ahead, then decides about all that it drew.

"released" follows the official code: one pass sees none of the drafted tokens, both models walk
along the same noise, the last denoising steps are compared, distances count in units of 42
deviations, and drafts behind a rejected one stay. "exact" gives what the target alone gives if it
draws the noise of its last denoising step too (`Options.last_noise`), see
`limner.decoding.exact_speculation`. Rows do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from limner.core.errors import ConfigError, check
from limner.core.generator import Generator, Packed
from limner.core.head import Drawn, LossBreakdown, Turn
from limner.core.memory import Memory
from limner.core.noise import Noise
from limner.core.order import Order, Partition, Step
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots
from limner.core.tokens import Tokens
from limner.decoding.blocks import Block, Blocks, SpeculationConfig
from limner.decoding.exact_speculation import Attempt, Outcome, drafted_of, drafting
from limner.heads import acceptance
from limner.heads.diffusion import DiffusionHead, LastStep


@dataclass(frozen=True)
class Verdict:
    """What one pass of the target decided about, R rows.

    Args:
        rows: whose blocks.
        blocks: what was decided about.
        tokens: int64 [R, n], padded with -1.
        drafted: bool [R, n]; the others were drawn by the target.
        ratio: float [R, n], acceptance ratios, may exceed 1.
        accepted: bool [R, n].
        done: bool [R, n]; the others will be drawn again, whatever became of them.
    """

    rows: Sequence[Row]
    blocks: Sequence[Block]
    tokens: Tensor
    drafted: Tensor
    ratio: Tensor
    accepted: Tensor
    done: Tensor


class Tally:
    """Counts what speculation did; one of `SpeculativeHead.watches`.

    Attributes:
        target_passes: passes of the target that rows took part in; those without drafts too.
        draft_passes: the same of the draft.
        accepted: drafts that were kept.
        rejected: drafts that were replaced.
        dropped: drafts behind a rejected step, which were drawn again (exact mode).
    """

    def __init__(self) -> None:
        self.target_passes = self.draft_passes = 0
        self.accepted = self.rejected = self.dropped = 0

    def __str__(self) -> str:
        drafts = self.accepted + self.rejected + self.dropped
        return (
            f"{self.target_passes} passes of the target and {self.draft_passes} of the draft; "
            f"{self.accepted} of {drafts} drafted tokens were accepted"
        )

    def __call__(self, verdict: Verdict) -> None:
        """Count."""
        self.target_passes += len(verdict.rows)
        self.draft_passes += sum(block.drafted for block in verdict.blocks)
        kept = verdict.drafted & verdict.done
        self.accepted += int((kept & verdict.accepted).sum())
        self.rejected += int((kept & ~verdict.accepted).sum())
        self.dropped += int((verdict.drafted & ~verdict.done).sum())


class Speculative(Generator):
    """A target that is drawn with the help of a draft; trained and saved are its parts.

    Args:
        draft: the smaller model; its tokens, classes and denoising steps are those of the target.
        target: the model whose pictures are drawn.
        config: see `SpeculationConfig`.

    Raises:
        ConfigError: the models do not fit each other.
    """

    head: SpeculativeHead

    def __init__(
        self, draft: Generator, target: Generator, config: SpeculationConfig | None = None
    ) -> None:
        super().__init__()
        _check_fit(draft, target)
        self.target, self.draft = target, draft
        self.speculation = config or SpeculationConfig()
        self.config: Any = target.config
        self.condition = target.condition
        self.guidance = target.guidance
        self.head = SpeculativeHead(draft, target, self.speculation)

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the target's loss."""
        return self.target.loss(tokens, condition, rng)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """The target's order, steps joined."""
        order = self.target.order(tokens, options, noise)
        return Blocks(cast(Partition, order), self.speculation)

    def begin(
        self, tokens: Tokens, condition: Condition, options: Options, noise: Noise
    ) -> list[Row]:
        """Return the rows of one picture.

        Raises:
            ConfigError: a temperature of 0, or annealing in the released mode.
        """
        heat = options.temperature
        check(heat > 0, "temperature", heat, "above 0 in speculative decoding")
        if self.speculation.mode == "released":
            accepted = "left out in the released mode: draft and target denoise in step"
            check(options.annealing is None, "annealing", str(options.annealing), accepted)
        else:
            options = replace(options, last_noise=True)
        return super().begin(tokens, condition, options, noise)

    def null(self, condition: Condition) -> Condition:
        """The target's null condition."""
        return self.target.null(condition)

    def slots(self, row: Row, step: Step) -> Slots:
        """What the target reads."""
        return self.target.slots(row, step)

    def inputs(self, packed: Packed) -> Tensor:
        """The target's inputs."""
        return self.target.inputs(packed)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return the target's outputs."""
        outputs: Tensor = self.target(packed, memory)
        return outputs

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return the target's memory."""
        return self.target.memory(rows)


class SpeculativeHead:
    """Lets the draft run ahead, and draws what the target makes of it.

    Args: as of `Speculative`.

    Attributes:
        solver_steps: least and most that an annealed row may take.
        watches: called with the verdict of every pass; see `Tally`.
    """

    def __init__(self, draft: Generator, target: Generator, config: SpeculationConfig) -> None:
        self.draft, self.target, self.config = draft, target, config
        self.solver_steps = _diffusion(target).solver_steps
        self.watches: list[Callable[[Verdict], None]] = []

    def loss(
        self, outputs: Tensor, targets: Tensor, rng: torch.Generator | None, weight: Tensor | None
    ) -> LossBreakdown:
        """Return the loss of the target's head."""
        return self.target.head.loss(outputs, targets, rng, weight)

    def draw(self, turn: Turn) -> Drawn:
        """Draw what this pass decides about; `turn` is the loop's, its steps are blocks."""
        if self.config.mode == "exact":
            outcome = Attempt(self.draft, self.target, turn, self.config.most_rounds).run()
        else:
            outcome = self._released(turn)
        drawn = outcome.drawn
        assert drawn.done is not None
        found = (outcome.drafted, outcome.ratio.cpu(), outcome.accepted.cpu(), drawn.done.cpu())
        for watch in self.watches:
            watch(Verdict(turn.rows, _blocks(turn), turn.tokens, *found))
        return drawn

    def _released(self, turn: Turn) -> Outcome:
        drafted = drafted_of(_blocks(turn))
        ahead, own = self._run_ahead(turn), _Drawing.of(self.target, turn)
        x, drafts = ahead.values.to(own.values), ahead.last.to(own.values)
        correction = acceptance.log_correction(drafts, own.last)
        inner = self.config.inner_temperature
        ratio = acceptance.log_ratio(x, drafts, own.last, inner) + correction
        accepted = acceptance.keeps(ratio, turn.noise("uniform", "accept"))
        taken, _, _ = acceptance.resample(
            drafts,
            own.last,
            correction,
            lambda made: turn.noise("normal", "proposal", made, (x.shape[-1],)),
            lambda made: turn.noise("uniform", "residual", made),
            self.config.most_rounds,
            drafted.to(x.device),
        )
        kept = torch.where(accepted.unsqueeze(-1), x, taken)
        values = torch.where(drafted.to(x.device).unsqueeze(-1), kept, own.values)
        drawn = Drawn(values=values, done=torch.ones_like(drafted))
        return Outcome(drawn, drafted, ratio.exp(), accepted)

    def _run_ahead(self, turn: Turn) -> _Drawing:
        """Let the draft draw its parts of every block, in copies of the rows."""
        blocks, rows = _blocks(turn), [row.copy() for row in turn.rows]
        ahead = _Drawing.blank(turn, _diffusion(self.draft).token)
        for part, active, walked in drafting(self.draft, blocks, rows):
            drawn = _Drawing.of(self.draft, walked)
            walked.write(Drawn(values=drawn.values))
            for place, index in enumerate(active):
                ahead.put(index, blocks[index].span(part), drawn, place)
        return ahead


@dataclass(frozen=True)
class _Drawing:
    """What a model draws of every token of R blocks, and what its last steps draw from.

    Args:
        values: float [R, n, D].
        last: of the same shape.
    """

    values: Tensor
    last: LastStep

    @staticmethod
    def of(generator: Generator, turn: Turn) -> _Drawing:
        """Draw the steps of a turn; nothing is written."""
        return _Drawing(*_diffusion(generator).draw_watched(turn))

    @staticmethod
    def blank(turn: Turn, width: int) -> _Drawing:
        """Return zeros, and standard Gaussians, to be filled in."""
        zeros = torch.zeros(*turn.tokens.shape, width, dtype=torch.float64, device=turn.device)
        return _Drawing(zeros, LastStep(zeros.clone(), torch.ones_like(zeros), zeros.clone()))

    def put(self, row: int, span: slice, drawn: _Drawing, place: int) -> None:
        """Fill in part of a row from a row of another drawing."""
        count = span.stop - span.start
        self.values[row, span] = drawn.values[place, :count].to(self.values)
        for mine, other in zip(self.last.fields(), drawn.last.fields(), strict=True):
            mine[row, span] = other[place, :count].to(mine)


def _blocks(turn: Turn) -> list[Block]:
    return [cast(Block, step) for step in turn.steps]


def _diffusion(generator: Generator) -> DiffusionHead:
    return cast(DiffusionHead, generator.head)


def _check_fit(draft: Generator, target: Generator) -> None:
    """Raise unless a draft's tokens can be taken for the target's.

    Raises:
        ConfigError: they differ in what tokens or conditions are, or in how they are denoised.
    """
    for name, model in (("draft", draft), ("target", target)):
        parts = getattr(model.head, "draw_watched", None), getattr(model.config, "tokens", None)
        known = None not in parts
        kind = type(model).__name__
        check(known, name, kind, "a model of a fixed number of tokens with a diffusion head")
    ours, theirs = _diffusion(target).config, _diffusion(draft).config
    pairs = {
        "token_width": (draft.config.token_width, target.config.token_width),
        "tokens": (draft.config.tokens, target.config.tokens),
        "classes": (draft.config.classes, target.config.classes),
        **{
            f"head.{name}": (getattr(theirs, name), getattr(ours, name))
            for name in ("steps", "schedule", "chain")
        },
    }
    for name, (drafted, wanted) in pairs.items():
        if drafted != wanted:
            raise ConfigError(
                f"{name}={drafted!r} of the draft is not accepted: "
                f"it must be the target's, {wanted!r}"
            )
