"""Pictures and clips in: sources of every kind, sets in memory, streams, views, token caches."""

from limner.data.augment import Augment, random_flip, random_shift
from limner.data.cache_building import build_token_cache
from limner.data.clip_source import ClipSource, Window
from limner.data.film_source import FilmSource
from limner.data.load import load_folder, load_pictures, open_clips, open_source
from limner.data.moving_drawings import MovingDrawings, list_moving
from limner.data.packaged import list_packaged, load_packaged
from limner.data.pictures import PictureSet
from limner.data.source import Source
from limner.data.stream import PictureBatch, PictureLoader, PictureStream
from limner.data.token_cache import CachePlan, TokenCache
from limner.data.views import (
    AnyViews,
    CentreAndMirror,
    CentreCrop,
    RandomCrop,
    Shifted,
    TenCrop,
    Views,
)

__all__ = [
    "AnyViews",
    "Augment",
    "CachePlan",
    "CentreAndMirror",
    "CentreCrop",
    "ClipSource",
    "FilmSource",
    "MovingDrawings",
    "PictureBatch",
    "PictureLoader",
    "PictureSet",
    "PictureStream",
    "RandomCrop",
    "Shifted",
    "Source",
    "TenCrop",
    "TokenCache",
    "Views",
    "Window",
    "build_token_cache",
    "list_moving",
    "list_packaged",
    "load_folder",
    "load_packaged",
    "load_pictures",
    "open_clips",
    "open_source",
    "random_flip",
    "random_shift",
]
