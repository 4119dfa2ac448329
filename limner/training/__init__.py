"""Training: recipes, the loop, and what is measured on held-out pictures."""

from limner.training.learner import TrainingError
from limner.training.loop import train
from limner.training.progress import Moment, Progress
from limner.training.recipe import Recipe, TokenizerRecipe
from limner.training.recipe_files import dump_recipe, load_recipe
from limner.training.run import Run

__all__ = [
    "Moment",
    "Progress",
    "Recipe",
    "Run",
    "TokenizerRecipe",
    "TrainingError",
    "dump_recipe",
    "load_recipe",
    "train",
]
