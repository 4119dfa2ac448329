"""Pipeline: tokenizer, generator and conditions as users hold them."""

from __future__ import annotations

import json
import operator
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from limner.core.errors import CheckpointError, ConfigError, check, unknown
from limner.core.generator import Generator
from limner.core.guidance import Guidance
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.request import Request, TextEncoder
from limner.core.row import Condition, Event, Options, Row
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, empty, stack
from limner.data.images import to_mask, to_pixels
from limner.decoding import advance
from limner.decoding.loop import Cancelled, Hook
from limner.heads.guidance import schedule
from limner.hub.files import written_whole
from limner.hub.remote import push, resolve
from limner.hub.save import load_part, read_json, save_part
from limner.show.images import to_images

FORMAT = 1
INDEX = "limner.json"


@dataclass(frozen=True)
class Result:
    """Pictures that were drawn.

    Args:
        pictures: float32 [B, channels, H, W] in [-1, 1], on the CPU.
        tokens: what they were decoded from.
        settings: for every picture, all that is needed to draw it again with the same pipeline.
    """

    pictures: Tensor
    tokens: Tokens
    settings: tuple[dict[str, Any], ...]

    @property
    def images(self) -> list[Image.Image]:
        """The pictures as PIL images."""
        return to_images(self.pictures)


@dataclass(frozen=True)
class Preview:
    """What is drawn so far.

    Args:
        step: steps done.
        total: steps in all; None: not known.
        pictures: float32 [B, channels, H, W] in [-1, 1], as the tokenizer previews them.
    """

    step: int
    total: int | None
    pictures: Tensor


class Pipeline:
    """A tokenizer and a generator that draw together.

    Args:
        tokenizer: pictures to tokens and back.
        generator: draws the tokens.
        classes: names of the classes, in the order of their numbers.
        size: default height and width of pictures, in pixels.
        text_encoder: for generators that read text features.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        generator: Generator,
        classes: Sequence[str] = (),
        size: tuple[int, int] = (256, 256),
        text_encoder: TextEncoder | None = None,
    ) -> None:
        self.tokenizer = tokenizer.eval()
        self.generator = generator.eval()
        self.generator.canvas = tokenizer.canvas
        self.classes = tuple(classes)
        self.size = size
        self.text_encoder = text_encoder

    @classmethod
    def from_pretrained(
        cls,
        path_or_name: str | Path,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        text_encoder: TextEncoder | None = None,
    ) -> Pipeline:
        """Load a pipeline from a directory or a hub name.

        Args:
            path_or_name: what `save_pretrained` wrote, or "user/name" on the hub.
            dtype: of the generator's weights; None: as saved.
            device: None: the CPU.

        Raises:
            CheckpointError: something is missing, broken or does not fit.
        """
        directory = find(path_or_name)
        index = read_index(directory)
        tokenizer = load_part(directory / "tokenizer", TOKENIZERS, device=device)
        generator = load_part(directory / "model", MODELS, dtype=dtype, device=device)
        height, width = index["size"]
        return cls(tokenizer, generator, index["classes"], (height, width), text_encoder)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the pipeline whole or not at all: limner.json, tokenizer/ and model/."""
        index = {"limner": FORMAT, "classes": list(self.classes), "size": list(self.size)}
        with written_whole(directory) as target:
            save_part(self.tokenizer, target / "tokenizer")
            save_part(self.generator, target / "model")
            (target / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the pipeline to the hub and return its address; options as for `hub.push`."""
        with tempfile.TemporaryDirectory() as parent:
            self.save_pretrained(Path(parent) / "pipeline")
            return push(Path(parent) / "pipeline", repo_id, **options)

    def to(self, device: torch.device | str | None = None, dtype: Any = None) -> Pipeline:
        """Move both parts to a device; cast the generator to a dtype."""
        self.tokenizer.to(device=device)
        self.generator.to(device=device, dtype=dtype)
        return self

    def compile(self, **options: Any) -> Pipeline:
        """Compile the generator's blocks with `torch.compile`; shapes may vary."""
        for block in getattr(self.generator, "blocks", [self.generator]):
            block.compile(dynamic=True, **options)
        return self

    def __call__(
        self,
        classes: Sequence[int | str] | None = None,
        prompts: Sequence[str] | None = None,
        *,
        hooks: Sequence[Hook] = (),
        callback_on_step_end: Callable[[Pipeline, int, list[Event]], None] | None = None,
        **settings: Any,
    ) -> Result:
        """Draw pictures.

        Args:
            classes: a class name or number for each picture.
            prompts: a text for each picture.
            hooks: called after every step with what each row drew.
            callback_on_step_end: called as callback(pipeline, step, events) after every step; it
                may raise `limner.decoding.loop.Cancelled` to stop.
            **settings: see `Settings`: count, seed, guidance, temperature, top_k, top_p, min_p,
                steps, size, processors.

        Raises:
            ConfigError: a class, size or setting that is not accepted.
        """
        asked = self._ask(classes, prompts, Settings(**_checked(settings)))
        if callback_on_step_end is not None:
            hooks = [*hooks, _callback(self, callback_on_step_end)]
        return self._result(asked, self._draw(asked, hooks))

    def stream(
        self,
        classes: Sequence[int | str] | None = None,
        prompts: Sequence[str] | None = None,
        **settings: Any,
    ) -> Iterator[Preview]:
        """Draw pictures and yield a preview after every step; arguments as for a call."""
        asked = self._ask(classes, prompts, Settings(**_checked(settings)))
        for events in self._steps(asked, ()):
            tokens = stack([row.tokens for row in asked.leads])
            step = events[0].step
            yield Preview(step.index + 1, step.total, self.preview(tokens))

    def edit(
        self,
        picture: Image.Image | Tensor,
        mask: Image.Image | Tensor,
        classes: Sequence[int | str] | None = None,
        prompts: Sequence[str] | None = None,
        *,
        hooks: Sequence[Hook] = (),
        **settings: Any,
    ) -> Result:
        """Draw part of a picture anew; the tokens of the rest are held fixed.

        Args:
            picture: PIL image or float [channels, H, W] in [-1, 1].
            mask: white (or True) where it is drawn anew, of the picture's size.
            classes: a class for each of the variants to draw, or None.

        Raises:
            ConfigError: the mask has another size, is empty or covers everything.
        """
        pixels = to_pixels(picture) if isinstance(picture, Image.Image) else picture
        redraw = to_mask(mask) if isinstance(mask, Image.Image) else mask.bool()
        check_mask(redraw, (pixels.shape[-2], pixels.shape[-1]))
        settings = {**_checked(settings), "size": tuple(pixels.shape[-2:])}
        with torch.no_grad():
            given = self.tokenizer.encode(pixels.unsqueeze(0).to(self.tokenizer.device))
        given.known = ~tokens_under(redraw, given.layout).unsqueeze(0).to(given.known.device)
        asked = self._ask(classes, prompts, Settings(**settings), given)
        return self._result(asked, self._draw(asked, hooks))

    @torch.no_grad()
    def preview(self, tokens: Tokens) -> Tensor:
        """Return what the known tokens show, float32 [B, channels, H, W] on the CPU."""
        return self.tokenizer.preview(tokens.to(self.tokenizer.device)).float().cpu()

    def class_number(self, name: int | str) -> int:
        """Return the number of a class given by name or number.

        Raises:
            ConfigError: no such class; names the nearest.
        """
        if not isinstance(name, str):
            return operator.index(name)
        for fold in (str, str.casefold):  # classes may differ in case alone
            known = [fold(each) for each in self.classes]
            if fold(name) in known:
                return known.index(fold(name))
        if name.isdecimal():
            return int(name)
        raise unknown("class", name, self.classes)

    def _ask(
        self,
        classes: Sequence[int | str] | None,
        prompts: Sequence[str] | None,
        settings: Settings,
        given: Tokens | None = None,
    ) -> Asked:
        """Check everything and make the rows; nothing is drawn yet."""
        count = _count(classes, prompts, settings.count)
        settings.check_seeds(count)
        labels = None if classes is None else [self.class_number(name) for name in classes]
        if labels is not None:
            labels *= count // len(labels)
        texts = None if prompts is None else list(prompts) * (count // len(prompts))
        request = Request(count, labels, texts, self.text_encoder)
        condition = self.generator.condition.ask(request)
        height, width = settings.size or self.size
        layout = self.tokenizer.layout(height, width)
        options = settings.options(self.generator.guidance)
        leads, rows = [], []
        for index in range(count):
            one = {name: value[index : index + 1] for name, value in condition.items()}
            tokens = self._blank(layout) if given is None else given.clone()
            noise = SeededNoise(settings.seed_of(index))
            made = self.generator.begin(tokens.to(self.generator.device), one, options, noise)
            leads.append(made[0])
            rows += made
        records = tuple(
            settings.record(index, self._class_name(labels, index), texts, (height, width))
            for index in range(count)
        )
        return Asked(rows, leads, condition, records)

    def _class_name(self, labels: Sequence[int] | None, index: int) -> int | str | None:
        if labels is None:
            return None
        label = labels[index]
        return self.classes[label] if label < len(self.classes) else label

    def _blank(self, layout: Any) -> Tokens:
        dtype = next(self.generator.parameters()).dtype
        return empty(layout, 1, self.tokenizer.codes, self.tokenizer.width, dtype=dtype)

    def _draw(self, asked: Asked, hooks: Sequence[Hook]) -> list[Row]:
        try:
            for _ in self._steps(asked, hooks):
                pass
        except Cancelled:
            pass
        return asked.leads

    def _steps(self, asked: Asked, hooks: Sequence[Hook]) -> Iterator[list[Event]]:
        memory = self.generator.memory(asked.rows)
        memory.admit(asked.rows)
        while events := advance(self.generator, asked.rows, memory, hooks):
            yield events

    @torch.no_grad()
    def _result(self, asked: Asked, leads: Sequence[Row]) -> Result:
        tokens = stack([row.tokens for row in leads]).to(self.tokenizer.device)
        finished = bool(tokens.known.all())
        pictures = self.tokenizer.decode(tokens) if finished else self.tokenizer.preview(tokens)
        return Result(pictures.float().cpu(), tokens, asked.records)


@dataclass(frozen=True)
class Asked:
    """What was asked for, ready to be drawn."""

    rows: list[Row]
    leads: list[Row]
    condition: Condition
    records: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Settings:
    """How pictures are to be drawn.

    Args:
        count: pictures a class or prompt; None: one each.
        seed: picture i is drawn from seed + i; or a seed for each picture.
        guidance: the largest guidance scale (1: off), on the generator's published schedule; or a
            schedule of `limner.heads.guidance`.
        size: height and width in pixels; None: the pipeline's.
        temperature, top_k, top_p, min_p, steps, processors: see `limner.core.row.Options`.
    """

    count: int | None = None
    seed: int | Sequence[int] = 0
    guidance: float | Guidance = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    steps: int | None = None
    size: tuple[int, int] | None = None
    processors: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        fits = isinstance(self.guidance, (int, float)) or hasattr(self.guidance, "active")
        check(fits, "guidance", self.guidance, "a number or a schedule")
        pair = isinstance(self.size, (tuple, list)) and len(self.size) == 2
        check(self.size is None or pair, "size", self.size, "height and width in pixels")

    def check_seeds(self, count: int) -> None:
        """Raise ConfigError unless there is a seed for each of so many pictures."""
        if not isinstance(self.seed, int):
            accepted = f"a whole number, or {count} of them: one for each picture"
            check(len(self.seed) == count, "seed", list(self.seed), accepted)

    def options(self, published: str) -> Options:
        """Return the rows' options; a plain number becomes the published schedule."""
        guidance = self.guidance
        if isinstance(guidance, (int, float)):
            guidance = schedule(published, float(guidance))
        return Options(
            guidance,
            self.temperature,
            self.top_k,
            self.top_p,
            self.min_p,
            self.steps,
            self.processors,
        )

    def seed_of(self, index: int) -> int:
        """Return the seed of a picture."""
        return self.seed + index if isinstance(self.seed, int) else self.seed[index]

    def record(
        self,
        index: int,
        name: int | str | None,
        prompts: Sequence[str] | None,
        size: tuple[int, int],
    ) -> dict[str, Any]:
        """Return a picture's settings as plain values."""
        guidance = self.guidance
        return {
            "class": name,
            "prompt": None if prompts is None else prompts[index],
            "seed": self.seed_of(index),
            "guidance": guidance if isinstance(guidance, (int, float)) else repr(guidance),
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "steps": self.steps,
            "size": list(size),
        }


def check_mask(mask: Tensor, size: tuple[int, int]) -> None:
    """Raise ConfigError unless the mask is of this size, and neither empty nor full."""
    shape = "x".join(map(str, mask.shape))
    check(tuple(mask.shape) == size, "mask", shape, f"of the picture's size, {size[0]}x{size[1]}")
    if not bool(mask.any()):
        raise ConfigError("mask is empty (all black): white marks what is drawn anew")
    if bool(mask.all()):
        raise ConfigError("mask is full (all white): leave black what is to be kept")


def tokens_under(mask: Tensor, layout: Any) -> Tensor:
    """Return bool [N]: the tokens that a mask [H, W] asks to draw anew.

    On the finest grid a token is drawn anew if any of its pixels is; on coarser scales if more
    than half of them are.
    """
    parts = []
    for segment in layout.segments:
        share = functional.adaptive_avg_pool2d(mask.float()[None, None], segment.size[1:])
        finest = segment.size == layout.extent
        parts.append((share > (0.0 if finest else 0.5)).flatten().repeat(segment.size[0]))
    return torch.cat(parts)


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    for name in settings:
        if name not in Settings.__dataclass_fields__:
            raise unknown("setting", name, Settings.__dataclass_fields__)
    return settings


def _count(classes: Sequence[Any] | None, prompts: Sequence[str] | None, count: int | None) -> int:
    lengths = set()
    for field, each in (("classes", classes), ("prompts", prompts)):
        if each is not None:
            check(not isinstance(each, str) and len(each) > 0, field, each, "a list of one or more")
            lengths.add(len(each))
    if len(lengths) > 1:
        raise ConfigError("classes and prompts must be as many: one of each for every picture")
    base = lengths.pop() if lengths else 1
    check(count is None or count > 0, "count", count, "1 or more")
    return base * (count or 1)


def _callback(pipeline: Pipeline, callback: Callable[[Pipeline, int, list[Event]], None]) -> Hook:
    def hook(events: list[Event]) -> None:
        callback(pipeline, events[0].step.index, events)

    return hook


def find(path_or_name: str | Path) -> Path:
    """Return the directory of a pipeline: the one named, or `pipeline/` of a training run.

    Raises:
        CheckpointError: there is none.
    """
    directory = resolve(path_or_name)
    for candidate in (directory, directory / "pipeline"):
        if (candidate / INDEX).is_file():
            return candidate
    raise CheckpointError(f"{path_or_name} is no pipeline: {INDEX} is missing")


def read_index(directory: Path) -> dict[str, Any]:
    """Return what limner.json says.

    Raises:
        CheckpointError: it is broken, or of another format.
    """
    index = read_json(directory / INDEX)
    if index.get("limner") != FORMAT:
        found = index.get("limner")
        raise CheckpointError(f"{directory / INDEX} is of format {found!r}: known: {FORMAT}")
    for field, kind in (("classes", str), ("size", int)):
        values = index.get(field)
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            raise CheckpointError(f"{directory / INDEX} is broken: {field} must be a list")
    if len(index["size"]) != 2:
        raise CheckpointError(f"{directory / INDEX} is broken: size must be height and width")
    return index
