"""Pictures in: packaged sets, folders, splits and augmentation."""

from limner.data.augment import Augment, random_flip, random_shift
from limner.data.folder import load_folder
from limner.data.load import load_pictures
from limner.data.packaged import list_packaged, load_packaged
from limner.data.pictures import PictureSet

__all__ = [
    "Augment",
    "PictureSet",
    "list_packaged",
    "load_folder",
    "load_packaged",
    "load_pictures",
    "random_flip",
    "random_shift",
]
