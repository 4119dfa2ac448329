"""From pictures and a machine to two recipes, with a reason for every choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.core.errors import DataError, check
from limner.data.survey import Survey
from limner.make.machine import Machine
from limner.training.merging import merge

LEAST = 20  # readable pictures
SIDES = (16, 32, 64, 128, 256)
MEASURED = 10  # measurements of a run


@dataclass(frozen=True)
class Wishes:
    """What is asked for; None leaves the choice to limner.

    Args:
        minutes: for everything.
        size: of the pictures drawn, in pixels.
        tokenizer: fields of the tokenizer's recipe, nested.
        generator: fields of the generator's recipe, nested.
    """

    minutes: float | None = None
    size: int | None = None
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    generator: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self.minutes is None or self.minutes > 0, "minutes", self.minutes, "above 0")
        fits = self.size is None or self.size >= 8
        check(fits, "size", self.size, "at least 8 pixels")


@dataclass(frozen=True)
class Plan:
    """What will be trained.

    Args:
        minutes: for everything.
        tokenizer: recipe of the tokenizer, without its steps.
        generator: recipe of the generator, without its steps.
        reasons: (what was chosen, why) in words.
    """

    minutes: float
    tokenizer: dict[str, Any]
    generator: dict[str, Any]
    reasons: tuple[tuple[str, str], ...]


def plan(
    source: str, survey: Survey, machine: Machine, output: Path, wishes: Wishes | None = None
) -> Plan:
    """Choose sizes for pictures on a machine.

    Args:
        source: of the pictures, as recipes name it.
        output: folder of everything.

    Raises:
        DataError: too few pictures to learn from.
        ConfigError: a wish that is not accepted.
    """
    wishes = wishes or Wishes()
    pictures = readable(survey)
    if pictures < LEAST:
        raise DataError(
            f"{source!r} has {pictures} readable pictures: at least {LEAST} are needed, and a few "
            "hundred make a model that draws"
        )
    minutes = wishes.minutes or (60.0 if machine.is_fast else 20.0)
    size = wishes.size or _size(survey, machine, minutes)
    factor = _factor(size)
    check(size % factor == 0, "size", size, f"a multiple of {factor}")
    codes = _codes(pictures * (size // factor) ** 2, machine)
    data = _data(source, survey, size)
    common = {"data": data, "device": machine.device, "evaluations": MEASURED}
    tokenizer = _tokenizer(size, factor, codes, machine) | common
    generator = _generator(survey, machine) | common
    generator["data"] = data | {"cache": str(output / "tokens")}
    generator["tokenizer"] = {"weights": str(output / "tokenizer")}
    for name, recipe in (("tokenizer", tokenizer), ("generator", generator)):
        recipe |= {"name": f"{output.name}/{name}", "output": str(output / name)}
    return Plan(
        minutes,
        merge(tokenizer, wishes.tokenizer),
        merge(generator, wishes.generator),
        tuple(_reasons(survey, machine, minutes, tokenizer, generator, factor)),
    )


def readable(survey: Survey) -> int:
    """Return about how many pictures can be read."""
    return round(survey.total * (1 - len(survey.unreadable) / survey.looked))


def by_captions(survey: Survey) -> bool:
    """Say whether pictures are asked by captions: there is one class, and most have one written."""
    return len(survey.classes) == 1 and survey.captions.written > survey.looked / 2


def _size(survey: Survey, machine: Machine, minutes: float) -> int:
    """The largest side that the pictures have and that can be learned in the time."""
    enough = {16: 0, 32: 0, 64: 120, 128: 10**9, 256: 10**9}
    if machine.is_fast:
        enough = {16: 0, 32: 0, 64: 0, 128: 120, 256: 24 * 60}
    assert survey.short_side is not None  # some pictures are readable
    short = survey.short_side.median
    sides = [side for side in SIDES if enough[side] <= minutes and side <= short]
    return max(sides, default=SIDES[0])


def _factor(size: int) -> int:
    """Pixels a token covers: as few as leave a sequence that is short enough."""
    return 4 if size <= 64 else 8 if size <= 128 else 16


def _codes(places: int, machine: Machine) -> int:
    """A code for every hundred places of the training pictures, in powers of two."""
    most = 16384 if machine.is_fast else 1024
    codes = 128
    while codes * 2 <= most and codes * 200 <= places:
        codes *= 2
    return codes


def _data(source: str, survey: Survey, size: int) -> dict[str, Any]:
    shift = max(1, size // 16)
    views = {"kind": "shifted", "shift": shift, "flip": 0.5, "count": _views(readable(survey))}
    return {
        "source": source,
        "size": size,
        "held_out": 0.1 if readable(survey) < 10_000 else 1000 / readable(survey),
        "views": views,
    }


def _views(pictures: int) -> int:
    """Versions of every picture that are tokenised: the more the fewer there are."""
    return 10 if pictures < 5_000 else 4 if pictures < 100_000 else 2


def _tokenizer(size: int, factor: int, codes: int, machine: Machine) -> dict[str, Any]:
    levels = factor.bit_length()
    multipliers = [1, *[2] * (levels - 1)]
    convolution = {
        "channels": 64 if machine.is_fast else 32,
        "multipliers": multipliers,
        "blocks": 2 if machine.is_fast else 1,
        "encoder_attention": [-1] if machine.is_fast else [],
        "decoder_attention": [-1] if machine.is_fast else [],
    }
    config = {
        "convolution": convolution,
        "latent": 128 if machine.is_fast else 64,
        "quantizer": {"kind": "vq", "codebook_size": codes, "width": 8},
    }
    return {
        "tokenizer": {"family": "vqgan", "config": config},
        "objective": {
            "perceptual": 0.03,
            "adversarial": 0.1,
            "discriminator": {"channels": 64 if machine.is_fast else 32, "depth": 2},
        },
        "optimizer": {"lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 0.0, "warmup": 0.02},
        "discriminator": {"lr": 2e-4},
        "budget": {"batch": 64 if machine.is_fast else 16},
        "precision": "bfloat16" if machine.device.startswith("cuda") else "float32",
    }


def _generator(survey: Survey, machine: Machine) -> dict[str, Any]:
    """A network that is as large as the pictures can teach and the machine can train."""
    pictures = readable(survey)
    width, depth = (128, 4) if pictures < 1_000 else (128, 5) if pictures < 10_000 else (192, 6)
    if machine.is_fast:
        width, depth = (256, 6) if pictures < 10_000 else (512, 12)
    config: dict[str, Any] = {
        "width": width,
        "depth": depth,
        "heads": width // 32,
        "multiple_of": 32,
        "dropout": 0.2 if pictures < 1_000 else 0.1 if pictures < 10_000 else 0.05,
    }
    if by_captions(survey):
        config |= {"condition": "caption", "text_length": 16}
    return {
        "model": {"family": "llamagen", "config": config},
        "start_from_codes": True,
        "optimizer": {"lr": 2e-3 if width < 256 else 6e-4, "weight_decay": 0.1},
        "budget": {"batch": 128 if machine.is_fast else 32},
        "sample": {"each": 8, "times": 4, "guidance": 2.0, "top_p": 0.98},
        "precision": "bfloat16" if machine.device.startswith("cuda") else "float32",
    }


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}es"


def _reasons(
    survey: Survey,
    machine: Machine,
    minutes: float,
    tokenizer: Mapping[str, Any],
    generator: Mapping[str, Any],
    factor: int,
) -> list[tuple[str, str]]:
    """What was chosen, and why."""
    size = tokenizer["data"]["size"]
    side = size // factor
    config = generator["model"]["config"]
    codes = tokenizer["tokenizer"]["config"]["quantizer"]["codebook_size"]
    by = "captions" if by_captions(survey) else _counted(len(survey.classes), "class")
    short = survey.short_side.median if survey.short_side is not None else 0
    views = tokenizer["data"]["views"]
    return [
        (f"{minutes:g} minutes", f"what {machine} does in that time; --minutes changes it"),
        (
            f"{size} x {size} pixels",
            f"the pictures' short side is {short:g} in the middle; --size changes it",
        ),
        (f"{side} x {side} tokens", f"one for {factor} x {factor} pixels"),
        (f"{codes} codes", f"one for every hundred places of {readable(survey):,} pictures"),
        (f"asked by {by}", "the pictures' sub-folders and captions"),
        (
            f"{config['width']} wide, {config['depth']} deep, dropout {config['dropout']:g}",
            "as much as so many pictures teach without being learned by heart",
        ),
        (
            f"{views['count']} views of each",
            f"moved by up to {views['shift']} pixels and mirrored; where left and right matter: "
            "--tokenizer.data.views.flip 0 --generator.data.views.flip 0",
        ),
    ]
