"""Speculative decoding of continuous tokens that gives what the target alone gives.

The rule is that of speculative decoding for discrete tokens, where a token is the whole way from
noise to data that a denoiser takes to it. The ways' densities are known, see `limner.heads.paths`:
a draft is kept with probability min(1, p / q), and what takes its place is drawn from the positive
part of p - q, by ways of the target that are taken with probability max(0, 1 - q / p). A pass of
the target reads a copy of the row for every drafted step, each with the drafts before it; all
behind the first step with a rejected draft is drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from limner.core.generator import Generator
from limner.core.head import Drawn, Outputs, Turn
from limner.core.order import Step
from limner.core.row import Row
from limner.decoding.blocks import Block
from limner.decoding.turn import Turn as NetworkTurn
from limner.decoding.turn import aside
from limner.heads import acceptance, paths
from limner.heads.diffusion import DiffusionHead, NoiseSource
from limner.heads.paths import Given

Key = tuple[int, int]
"""Number of a row, and of a part of its block."""

Places = tuple[Tensor, Tensor]
"""Rows and places of tokens in [R, n, ...]."""


@dataclass(frozen=True)
class Draft:
    """What was drafted of one part.

    Args:
        given: under what.
        states: float [S + 1, n, 1, D], the ways to its tokens.
        log_density: float [n], how likely the draft was to take them.
    """

    given: Given
    states: Tensor
    log_density: Tensor


@dataclass(frozen=True)
class Outcome:
    """What became of the blocks of R rows.

    Args:
        drawn: values of all tokens, and which of them are done.
        drafted: bool [R, n].
        ratio: float [R, n], p / q of drafts; 1 elsewhere.
        accepted: bool [R, n], drafts that are kept, whether they are done or not.
    """

    drawn: Drawn
    drafted: Tensor
    ratio: Tensor
    accepted: Tensor


class Attempt:
    """One pass of the target over the blocks of several rows.

    Args:
        draft: the smaller model.
        target: the model whose distribution is drawn from.
        turn: the loop's, whose steps are blocks.
        rounds: most proposals for a rejected token.
    """

    def __init__(self, draft: Generator, target: Generator, turn: Turn, rounds: int) -> None:
        self.draft, self.target = draft, target
        self.heads = cast(DiffusionHead, draft.head), cast(DiffusionHead, target.head)
        self.turn, self.rounds = turn, rounds
        self.blocks = [cast(Block, step) for step in turn.steps]
        self.drafts: dict[Key, Draft] = {}

    def run(self) -> Outcome:
        """Draw."""
        rows = self._run_ahead()
        given = self._look(rows)
        values, log_ratio = self._blank(self.heads[1].token), self._blank(1).squeeze(-1)
        drafted = drafted_of(self.blocks)
        for key, log_density in self._densities(given):
            draft, at = self.drafts[key], (key[0], self._span(key))
            log_ratio[at] = (log_density - draft.log_density.to(log_density)).to(log_ratio)
            values[at] = draft.states[-1].squeeze(1).to(values)
        accepted = acceptance.keeps(log_ratio, self.turn.noise("uniform", "accept")) & drafted
        rejected = drafted & ~accepted
        ends = [self._end(index, rejected[index]) for index in range(len(self.blocks))]
        self._replace(values, given, rejected, ends)
        self._draw_alone(values, given, ends)
        done = torch.zeros_like(drafted)
        for index, end in enumerate(ends):
            done[index, : self._span((index, end)).stop] = True
        drawn = Drawn(values=values.to(self.turn.device), done=done)
        return Outcome(drawn, drafted, log_ratio.exp(), accepted)

    def _run_ahead(self) -> list[Row]:
        """Let the draft draw its parts of every block; return copies of the rows that know them."""
        rows = [row.copy() for row in self.turn.rows]
        for part, active, turn in drafting(self.draft, self.blocks, rows):
            keys = [(index, part) for index in active]
            values, given = (
                self._blank(self.heads[0].token),
                dict(zip(keys, _given(turn), strict=True)),
            )
            for alike, joined in _alike(given):
                at = self._places(alike)
                made = paths.walk(self.heads[0], joined, self._noise(at))
                values[at] = made.values.to(values)
                counts = [len(given[key]) for key in alike]
                split = made.states.split(counts, 1), made.log_density.split(counts)
                for key, states, density in zip(alike, *split, strict=True):
                    self.drafts[key] = Draft(given[key], states, density)
            parts = [values[key[0], self._span(key)] for key in keys]
            padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
            turn.write(Drawn(values=padded.to(self.turn.device)))
        return rows

    def _look(self, drafts: Sequence[Row]) -> dict[Key, Given]:
        """Let the target read every part, given the drafts before it, in one pass."""
        keys = [
            (row, part) for row, block in enumerate(self.blocks) for part in range(len(block.parts))
        ]
        rows = []
        for index, part in keys:
            row = drafts[index].copy()
            row.tokens.known = self.turn.rows[index].tokens.known.clone()
            before = self.blocks[index].draw[: self._span((index, part)).start]
            row.tokens.known[0, before.to(row.tokens.known.device)] = True
            rows.append(row)
        turn = aside(self.target, rows, [self._part(key) for key in keys])
        return dict(zip(keys, _given(turn), strict=True))

    def _densities(self, given: Mapping[Key, Given]) -> Iterator[tuple[Key, Tensor]]:
        """Yield how likely the target was to take the ways to every drafted part, float [n]."""
        for alike, joined in _alike({key: given[key] for key in self.drafts}):
            states = torch.cat([self.drafts[key].states for key in alike], dim=1)
            density = paths.log_density(self.heads[1], joined, states)
            yield from zip(alike, density.split([len(given[key]) for key in alike]), strict=True)

    def _end(self, row: int, rejected: Tensor) -> int:
        """Return the last part of a block that is done now: the first with a rejected draft."""
        parts = range(len(self.blocks[row].parts))
        found = (part for part in parts if rejected[self._span((row, part))].any())
        return next(found, parts[-1])

    def _replace(
        self, values: Tensor, given: Mapping[Key, Given], rejected: Tensor, ends: Sequence[int]
    ) -> None:
        """Draw the rejected tokens of every block's last part anew."""
        ours, theirs = {}, {}
        for key in enumerate(ends):
            where = rejected[key[0], self._span(key)].nonzero().squeeze(-1)
            if len(where):
                ours[key], theirs[key] = given[key].at(where), self.drafts[key].given.at(where)
        for alike, joined in _alike(ours):
            at = self._places(alike)
            at = at[0][rejected[at]], at[1][rejected[at]]
            asked = self._proposals(joined, Given.joined([theirs[key] for key in alike]), at)
            values[at] = acceptance.residual(*asked, len(joined), self.rounds).to(values)

    def _proposals(
        self, ours: Given, theirs: Given, at: Places
    ) -> tuple[acceptance.Proposals, acceptance.Numbers]:
        """Return what draws ways of the target and asks the draft about them, and who decides."""

        def propose(made: int, wanted: Tensor) -> tuple[Tensor, Tensor]:
            places = at[0][wanted], at[1][wanted]
            way = paths.walk(
                self.heads[1], ours.at(wanted), self._noise(places, f"proposal/{made}/")
            )
            return way.values, way.log_density - paths.log_density(
                self.heads[0], theirs.at(wanted), way.states
            )

        return propose, lambda made: self.turn.noise("uniform", "residual", made)[at]

    def _draw_alone(self, values: Tensor, given: Mapping[Key, Given], ends: Sequence[int]) -> None:
        """Draw the parts that nothing was drafted of, behind drafts that were all kept."""
        alone = {key: given[key] for key in enumerate(ends) if key not in self.drafts}
        for alike, joined in _alike(alone):
            at = self._places(alike)
            values[at] = paths.walk(self.heads[1], joined, self._noise(at)).values.to(values)

    def _noise(self, at: Places, name: str = "") -> NoiseSource:
        """Return the noise of tokens on their way."""

        def noise(purpose: str, inner: int) -> Tensor:
            numbers = self.turn.noise("normal", name + purpose, inner, (self.heads[1].token,))
            return numbers[at].unsqueeze(1)

        return noise

    def _places(self, keys: Sequence[Key]) -> Places:
        """Return where the tokens of some parts stand."""
        spans = [torch.arange(*self._span(key).indices(self.turn.tokens.shape[1])) for key in keys]
        rows = [torch.full_like(span, key[0]) for key, span in zip(keys, spans, strict=True)]
        return torch.cat(rows), torch.cat(spans)

    def _part(self, key: Key) -> Step:
        return self.blocks[key[0]].parts[key[1]]

    def _span(self, key: Key) -> slice:
        return self.blocks[key[0]].span(key[1])

    def _blank(self, width: int) -> Tensor:
        return torch.zeros(*self.turn.tokens.shape, width, dtype=torch.float64)


def drafted_of(blocks: Sequence[Block]) -> Tensor:
    """Return which tokens are drafted, bool [R, n]: the first ones of every block."""
    longest = max(len(block.draw) for block in blocks)
    return torch.arange(longest) < torch.tensor([[block.ahead] for block in blocks])


def drafting(
    draft: Generator, blocks: Sequence[Block], rows: Sequence[Row]
) -> Iterator[tuple[int, list[int], NetworkTurn]]:
    """Yield the turns in which a draft runs ahead, part by part, in rows that are to be written.

    Yields:
        Number of the part, which of the rows draw it, and their turn.
    """
    for part in range(max(block.drafted for block in blocks)):
        active = [index for index, block in enumerate(blocks) if block.drafted > part]
        steps = [blocks[index].parts[part] for index in active]
        yield part, active, aside(draft, [rows[index] for index in active], steps)


def _given(turn: NetworkTurn) -> list[Given]:
    """Return what every row's tokens are drawn under."""
    outputs, head = turn.evaluate(), cast(DiffusionHead, turn.generator.head)
    given = []
    for index, (row, step) in enumerate(zip(turn.rows, turn.steps, strict=True)):
        count = len(step.draw)
        lead, null = outputs.lead[index, :count], outputs.null
        one = Outputs(
            lead.unsqueeze(1),
            None if null is None else null[index, :count].unsqueeze(1),
            outputs.scales[index].expand(count),
        )
        warmth = torch.full((count,), row.options.temperature, device=lead.device)
        given.append(Given(one, warmth, head.respacing(row, step)))
    return given


def _alike(given: Mapping[Key, Given]) -> Iterator[tuple[list[Key], Given]]:
    """Yield parts whose tokens walk the same denoising steps, and these tokens together."""
    groups: dict[str, list[Key]] = {}
    for key, one in given.items():
        groups.setdefault(one.respacing, []).append(key)
    for keys in groups.values():
        yield keys, Given.joined([given[key] for key in keys])
