"""Tuning of trained pipelines: a subject is learned from a few pictures."""

from limner.tuning.recipe import PriorRecipe, SubjectRecipe, subject_recipe
from limner.tuning.subject import tune_subject

__all__ = ["PriorRecipe", "SubjectRecipe", "subject_recipe", "tune_subject"]
