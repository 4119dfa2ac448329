"""Pictures out: PNG files that know how they were drawn, grids, animations, terminal previews."""

from limner.show.animation import save_animation
from limner.show.clip import save_clip
from limner.show.grid import contact_sheet
from limner.show.images import to_images
from limner.show.png import read_settings, save_png
from limner.show.terminal import LiveView, half_blocks

__all__ = [
    "LiveView",
    "contact_sheet",
    "half_blocks",
    "read_settings",
    "save_animation",
    "save_clip",
    "save_png",
    "to_images",
]
