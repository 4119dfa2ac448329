"""Pictures in: sources of every kind, sets in memory, streams, views and token caches."""

from limner.data.augment import Augment, random_flip, random_shift
from limner.data.cache_building import build_token_cache
from limner.data.load import load_folder, load_pictures, open_source
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
    "build_token_cache",
    "list_packaged",
    "load_folder",
    "load_packaged",
    "load_pictures",
    "open_source",
    "random_flip",
    "random_shift",
]
