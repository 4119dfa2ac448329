"""What generators have in common that draw one scale a step."""

from __future__ import annotations

from limner.core.errors import check
from limner.core.generator import Generator
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.row import Options, Row
from limner.core.slots import Slots
from limner.core.tokens import Tokens
from limner.orders import scale_slots, scales


class Scaled:
    """Base of configurations with fixed scales.

    Attributes:
        scales: sides of the maps, coarse to fine: one number for squares, or (rows, columns).
    """

    scales: tuple[int | tuple[int, int], ...]

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of every scale."""
        return tuple((size, size) if isinstance(size, int) else size for size in self.scales)

    @property
    def length(self) -> int:
        """Number of tokens of all scales."""
        return sum(rows * columns for rows, columns in self.sizes)

    def check_scales(self) -> None:
        """Raise ConfigError unless there are scales, of positive sizes."""
        fits = len(self.scales) > 0 and all(min(size) > 0 for size in self.sizes)
        check(fits, "scales", self.scales, "one or more positive sizes")


class NextScale(Generator):
    """Base: all tokens of a scale are drawn at once, each at its own place."""

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """One scale a step.

        Raises:
            ConfigError: the tokens have other scales than the model.
        """
        sizes = tuple(segment.size[1:] for segment in tokens.layout.segments)
        check(sizes == self.config.sizes, "scales", sizes, f"the model's {self.config.sizes}")
        return scales(tokens.layout)

    def slots(self, row: Row, step: Step) -> Slots:
        """The places of the scale that is drawn, each of which speaks for itself."""
        return scale_slots(row.tokens.layout, step.index)
