"""Pictures in a terminal: two pixels a character, by half blocks in 24-bit colour."""

from __future__ import annotations

from types import TracebackType

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.style import Style
from rich.text import Text

from limner.show.grid import contact_sheet
from limner.show.images import Pictures

UPPER_HALF = "▀"  # its own colour above, the background below


def half_blocks(image: Image.Image, columns: int, rows: int) -> Text:
    """Return a picture as lines of half blocks.

    Args:
        image: is made smaller where it does not fit, never larger.
        columns: characters that may be used in a line.
        rows: lines that may be used, of two pixels each.
    """
    scale = min(1.0, columns / image.width, 2 * rows / image.height)
    width = max(1, int(image.width * scale))
    height = max(2, int(image.height * scale) // 2 * 2)
    small = image.convert("RGB").resize((width, height), Image.Resampling.BOX)
    pixels = np.asarray(small).tolist()
    lines = []
    for above, below in zip(pixels[::2], pixels[1::2]):
        line = Text(no_wrap=True)
        for upper, lower in zip(above, below):
            line.append(
                UPPER_HALF, Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))
            )
        lines.append(line)
    return Text("\n", no_wrap=True).join(lines)


class LiveView:
    """Pictures that are redrawn in place while they come about, above another live part.

    Nothing is shown where the console is no terminal; pictures only where it has colours.

    Args:
        console: where to.
        below: shown under the pictures, such as a progress bar.
    """

    def __init__(self, console: Console, below: RenderableType) -> None:
        self.console = console
        self._below = below
        self._live = (
            Live(below, console=console, refresh_per_second=8) if console.is_terminal else None
        )

    @property
    def shows_pictures(self) -> bool:
        """Whether the console can show them."""
        return self._live is not None and self.console.color_system is not None

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, pictures: Pictures) -> None:
        """Replace the pictures on show.

        Args:
            pictures: float [B, 1 or 3, H, W] in [-1, 1] or PIL images.
        """
        if self._live is None or not self.shows_pictures:
            return
        width, height = self.console.size
        sheet = contact_sheet(pictures, background="black")
        blocks = half_blocks(sheet, width, max(1, height - 4))
        self._live.update(Group(blocks, self._below))
