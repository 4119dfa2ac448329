"""One step of several rows: packing what the network reads, and writing what the head drew."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import torch
from torch import Tensor

from limner.core.generator import Generator, Packed
from limner.core.head import Drawn, Outputs
from limner.core.memory import Memory
from limner.core.order import Step
from limner.core.row import Event, Row
from limner.core.slots import Slots, batch
from limner.core.tokens import stack


class Turn:
    """The step that R lead rows take now, maybe each its own; see `limner.core.head.Turn`.

    Args:
        generator: whose network is read.
        leads: the rows that draw.
        steps: the step of each.
        nulls: the null rows that guide them, each after its `lead`; fewer than R or none.
        memory: what earlier passes left.
    """

    def __init__(
        self,
        generator: Generator,
        leads: Sequence[Row],
        steps: Sequence[Step],
        nulls: Sequence[Row],
        memory: Memory,
    ) -> None:
        self.generator = generator
        self.rows = leads
        self.steps = steps
        self.memory = memory
        self.device = generator.device
        self.tokens = _padded([step.draw for step in steps], -1)
        self._null_lead = [leads.index(null.lead) for null in nulls if null.lead is not None]
        # rows in the order of their places in memory: contiguous places need no gathering
        everyone = list(zip([*leads, *nulls], [*range(len(leads)), *self._null_lead], strict=True))
        order = sorted(range(len(everyone)), key=lambda i: everyone[i][0].slot)
        self._rows = [everyone[i][0] for i in order]
        self._leads = [everyone[i][1] for i in order]
        self._position = sorted(range(len(order)), key=order.__getitem__)
        self._slots: list[Slots] = []
        self._committed = False  # whether the slots left are scratch alone
        self._scales = self._guidance_scales()

    def evaluate(self, draft: Tensor | None = None, level: Tensor | None = None) -> Outputs:
        """See `limner.core.head.Turn.evaluate`."""
        packed = self._pack(draft, level)
        outputs = self._by_token(self.generator(packed, self.memory), packed.slots)
        count = len(self.rows)
        lead = _picked(outputs, self._position[:count])
        if not self._null_lead:
            return Outputs(lead, None, self._scales)
        null = _picked(outputs, self._position[count:])
        if self._null_lead != list(range(count)):
            repeated = lead.clone()
            repeated[self._null_lead] = null
            null = repeated
        return Outputs(lead, null, self._scales)

    def noise(self, kind: str, purpose: str, inner: int = 0, shape: tuple[int, ...] = ()) -> Tensor:
        """See `limner.core.head.Turn.noise`."""
        rows = []
        for row, step in zip(self.rows, self.steps, strict=True):
            name = f"{purpose}/{step.again}" if step.again else purpose
            rows.append(getattr(row.noise, kind)(name, step.draw, inner, shape))
        return _padded(rows, 0.5)

    def write(self, drawn: Drawn) -> list[Event]:
        """Write what was drawn into the rows, bring their canvases and steps forward."""
        for index, (row, step) in enumerate(zip(self.rows, self.steps, strict=True)):
            self._write_row(row, step, drawn, index)
        self._paint()
        events = []
        for row, step in zip(self.rows, self.steps, strict=True):
            row.step += 1
            events.append(Event(row, step, finished=row.order.next(row) is None))
        return events

    def _write_row(self, row: Row, step: Step, drawn: Drawn, index: int) -> None:
        places = row.free(step.draw)
        target = places.to(self.device)
        # where in the step the free places stand
        source = slice(len(places)) if places is step.draw else ~row.held[step.draw]  # type: ignore[index]
        tokens = row.tokens
        if drawn.ids is not None and tokens.ids is not None:
            tokens.ids[0, target] = drawn.ids[index, : len(step.draw)][source]
        if drawn.values is not None and tokens.values is not None:
            values = drawn.values[index, : len(step.draw)][source]
            tokens.values[0, target] = values.to(tokens.values.dtype)
        if drawn.logprob is not None and row.logprob is not None:
            logprob = drawn.logprob[index, : len(step.draw)][source]
            row.logprob[places] = logprob.to(row.logprob)
        if row.last is not None:
            row.last[places] = step.index
        done: Tensor | bool = True
        if drawn.done is not None:
            done = drawn.done[index, : len(step.draw)][source].to(self.device)
        elif step.level is not None:
            done = step.finishes()[source].to(self.device)
        tokens.known[0, target] = done

    def _paint(self) -> None:
        """Add the drawn segments to the canvases, rows at the same segment together."""
        for (_, segment), rows in self._by_segment(self.rows, range(len(self.rows))):
            canvases = _joined([row.canvas for row in rows])
            tokens = stack([row.tokens for row in rows])
            painted = self.generator.canvas.add(canvases, tokens, segment)
            if painted is not None:
                for row, canvas in zip(rows, painted.split(1), strict=True):
                    row.canvas = canvas

    def _pack(self, draft: Tensor | None, level: Tensor | None) -> Packed:
        if not self._slots:
            self._slots = [
                self.generator.slots(row, self.steps[lead])
                for row, lead in zip(self._rows, self._leads, strict=True)
            ]
        elif not self._committed:
            self._slots = _scratch(self._slots)
            self._committed = True
        return Packed(
            stack([row.tokens for row in self._rows]),
            batch(self._slots),
            [row.condition for row in self._rows],
            self._rows,
            fed=self._fed(),
            noisy=self._spread(draft),
            level=self._spread_level(level),
        )

    def _fed(self) -> Tensor | None:
        """What the canvases say to the segments that are drawn now, float [R, n, D]."""
        fed: list[Tensor | None] = [None] * len(self._rows)
        for (_, segment), rows in self._by_segment(self._rows, self._leads):
            canvases = _joined([(row.lead or row).canvas for row in rows])
            tokens = stack([row.tokens for row in rows])
            read = self.generator.canvas.read(canvases, tokens, segment)
            if read is None:
                return None
            for row, part in zip(rows, read, strict=True):
                fed[self._rows.index(row)] = part
        return _padded([part for part in fed if part is not None], 0.0)

    def _by_segment(
        self, rows: Sequence[Row], leads: Iterable[int]
    ) -> list[tuple[tuple[Hashable, int], list[Row]]]:
        groups: dict[tuple[Hashable, int], list[Row]] = {}
        for row, lead in zip(rows, leads, strict=True):
            segment = row.tokens.layout.segment_at(self.steps[lead].first)
            groups.setdefault((row.tokens.layout, segment), []).append(row)
        return list(groups.items())

    def _spread(self, draft: Tensor | None) -> Tensor | None:
        """Put drafts [R, n, D] at their tokens' places, for lead and null rows: [rows, N, D]."""
        if draft is None:
            return None
        count = self.rows[0].tokens.known.shape[1]
        full = draft.new_zeros(len(self.rows), count, draft.shape[-1])
        for index, step in enumerate(self.steps):
            full[index, step.draw.to(draft.device)] = draft[index, : len(step.draw)]
        return full[self._leads]

    def _spread_level(self, level: Tensor | None) -> Tensor | None:
        if level is None:
            return None
        if level.dim() == 1:
            level = level.unsqueeze(1).expand(-1, self.tokens.shape[1])
        spread = self._spread(level.unsqueeze(-1))
        return None if spread is None else spread.squeeze(-1)

    def _by_token(self, outputs: Tensor, slots: Slots) -> Tensor:
        """Return outputs by drawn token, [rows, n, ...]; several for one token are averaged."""
        spoken = slots.speaks[..., 2]
        wanted = self.tokens[self._leads]
        if spoken.shape == wanted.shape and bool((spoken == wanted).all()):
            return outputs
        share = (wanted.unsqueeze(-1) == spoken.unsqueeze(1)) & (spoken >= 0).unsqueeze(1)
        weight = share / share.sum(-1, keepdim=True).clamp(min=1)
        weight = weight.to(outputs.device, outputs.dtype)
        return torch.einsum("rnm,rm...->rn...", weight, outputs)

    def _guidance_scales(self) -> Tensor:
        scales = []
        for row, step in zip(self.rows, self.steps, strict=True):
            scale = row.options.guidance.scale(row, step)
            scales.append(float("nan") if scale is None else scale)
        return torch.tensor(scales, dtype=torch.float64)


def _scratch(slots: list[Slots]) -> list[Slots]:
    made: dict[int, Slots] = {}
    for row in slots:
        if id(row) not in made:
            made[id(row)] = row.scratch()
    return [made[id(row)] for row in slots]


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    real = [part for part in parts if part is not None]
    return torch.cat(real) if len(real) == len(parts) else None


def _picked(x: Tensor, rows: list[int]) -> Tensor:
    """Return some rows of a tensor: a view where they lie at equal distances."""
    first, step = rows[0], rows[1] - rows[0] if len(rows) > 1 else 1
    if step > 0 and rows == list(range(first, rows[-1] + 1, step)):
        return x[first : rows[-1] + 1 : step]
    return x[torch.tensor(rows, device=x.device)]


def _padded(rows: Sequence[Tensor], value: float) -> Tensor:
    """Stack tensors [n, ...] of several lengths to [R, longest, ...]."""
    length = max(len(row) for row in rows)
    if all(len(row) == length for row in rows):
        return torch.stack(list(rows))
    padded = rows[0].new_full((len(rows), length, *rows[0].shape[1:]), value)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def aside(generator: Generator, rows: Sequence[Row], steps: Sequence[Step]) -> Turn:
    """Return a turn of rows beside a loop's: with null rows and a memory of its own."""
    nulls = [row.null(generator.null(row.condition)) for row in rows if row.options.guidance.active]
    memory = generator.memory(rows)
    memory.admit([*rows, *nulls])
    return Turn(generator, rows, steps, nulls, memory)
