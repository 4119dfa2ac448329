"""In which order tokens are drawn, and which together: partitions built from a layout."""

from limner.orders.partitions import (
    counted_scales,
    raster,
    runs,
    scale_slots,
    scales,
    teacher_slots,
    without_given,
)
from limner.orders.random import cosine_counts, random_partition

__all__ = [
    "cosine_counts",
    "counted_scales",
    "random_partition",
    "raster",
    "runs",
    "scale_slots",
    "scales",
    "teacher_slots",
    "without_given",
]
