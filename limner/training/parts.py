"""Tokenizers and generators as a recipe asks for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError, check
from limner.core.generator import Generator
from limner.core.registry import Family, Registry
from limner.core.tokenizer import Tokenizer
from limner.hub.build import fill
from limner.hub.remote import resolve
from limner.hub.save import WEIGHTS, read_header, read_tensors
from limner.training.merging import merge
from limner.training.recipe import PartRecipe


def build_part(registry: Registry, part: PartRecipe, facts: Mapping[str, Any]) -> Any:
    """Build a part, with fresh weights or with those that the recipe names.

    Args:
        registry: `MODELS` or `TOKENIZERS`.
        part: what is asked for.
        facts: values that follow from the data and the tokenizer, by the field of a configuration
            that holds them ({"classes": 9}). They fill the fields that `part.config` leaves open.
            Weights that are read bring the configuration they were trained with instead.

    Raises:
        ConfigError: an unknown family, variant or field, or weights of another family.
        CheckpointError: the weights are missing or do not fit.
    """
    if part.weights is not None:
        return _trained(registry, part, part.weights)
    family, values = _named(registry, part)
    fields = {field.name for field in dataclasses.fields(family.config)}
    values |= {name: value for name, value in facts.items() if name in fields}
    return _configured(family, merge(values, part.config), registry.kind)


def _named(registry: Registry, part: PartRecipe) -> tuple[Family, dict[str, Any]]:
    """Return the family that is asked for by name, and the configuration it begins with."""
    if part.variant is not None:
        variant = registry.get_variant(part.variant)
        return registry.get_family(variant.family), to_dict(variant.config)
    assert part.family is not None
    return registry.get_family(part.family), {}


def _trained(registry: Registry, part: PartRecipe, weights: str) -> Any:
    """Return a part with weights from a folder that holds it, or a pipeline with it."""
    folder = resolve(weights)
    folder = folder / registry.kind if (folder / registry.kind).is_dir() else folder
    header = read_header(folder, registry.kind)
    family = registry.get_family(header["family"])
    if part.family is not None or part.variant is not None:
        wanted, _ = _named(registry, part)
        accepted = f"weights of the family {wanted.name!r}, not of {family.name!r}"
        check(wanted is family, f"{registry.kind}.weights", weights, accepted)
    module = _configured(family, merge(header["config"], part.config), registry.kind)
    fill(module, read_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
    return module.float()  # halves, as weights are shipped, would learn nothing


def _configured(family: Family, values: Mapping[str, Any], kind: str) -> Any:
    return family.build(from_dict(family.config, values, f"{kind}.config"))


def start_from_codes(generator: Generator, tokenizer: Tokenizer, rng: torch.Generator) -> None:
    """Hand a fresh generator the vectors that the tokenizer has for its codes.

    Raises:
        ConfigError: the tokenizer has none, or the generator does not begin with any.
    """
    vectors = tokenizer.code_vectors()
    start = getattr(generator, "start_from_codes", None)
    if vectors is None or start is None:
        part = tokenizer if vectors is None else generator
        raise ConfigError(f"start_from_codes=True is not accepted: {type(part).__name__} cannot")
    start(vectors, rng)
