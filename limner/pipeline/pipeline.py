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

from limner.core.errors import ConfigError, unknown
from limner.core.generator import Generator
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.request import Request, TextEncoder
from limner.core.row import Event, Row
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, empty, stack
from limner.data.images import to_mask, to_pixels
from limner.decoding import generate, steps
from limner.decoding.loop import Hook
from limner.hub.files import written_whole
from limner.hub.remote import push
from limner.hub.save import load_part, save_part
from limner.pipeline.compilation import compile_blocks
from limner.pipeline.index import FORMAT, INDEX, find, read_index
from limner.pipeline.masks import check_mask, tokens_under
from limner.pipeline.settings import Settings, checked, pictures_asked
from limner.show.images import to_images


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

    Raises:
        ConfigError: the generator draws other codes than the tokenizer has.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        generator: Generator,
        classes: Sequence[str] = (),
        size: tuple[int, int] = (256, 256),
        text_encoder: TextEncoder | None = None,
    ) -> None:
        _check_codes(tokenizer, generator)
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
        with written_whole(directory) as target:
            save_part(self.tokenizer, target / "tokenizer")
            save_part(self.generator, target / "model")
            (target / INDEX).write_text(self.index(), encoding="utf-8")

    def index(self) -> str:
        """Return the text of limner.json, which makes a directory with both parts a pipeline."""
        index = {"limner": FORMAT, "classes": list(self.classes), "size": list(self.size)}
        return json.dumps(index, indent=1) + "\n"

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
        compile_blocks(self.generator, dynamic=True, **options)
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
        asked = self._ask(classes, prompts, Settings(**checked(settings)))
        if callback_on_step_end is not None:
            hooks = [*hooks, _callback(self, callback_on_step_end)]
        return self._result(asked, hooks)

    def stream(
        self,
        classes: Sequence[int | str] | None = None,
        prompts: Sequence[str] | None = None,
        **settings: Any,
    ) -> Iterator[Preview]:
        """Draw pictures and yield a preview after every step; arguments as for a call."""
        return self._previews(self._ask(classes, prompts, Settings(**checked(settings))))

    def _previews(self, asked: Asked) -> Iterator[Preview]:
        for events in steps(self.generator, asked.rows):
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
        settings = {**checked(settings), "size": tuple(pixels.shape[-2:])}
        with torch.no_grad():
            given = self.tokenizer.encode(pixels.unsqueeze(0).to(self.tokenizer.device))
        given.known = ~tokens_under(redraw, given.layout).unsqueeze(0).to(given.known.device)
        asked = self._ask(classes, prompts, Settings(**settings), given)
        return self._result(asked, hooks)

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
        count = pictures_asked(classes, prompts, settings.count)
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
        return Asked(rows, leads, records)

    def _class_name(self, labels: Sequence[int] | None, index: int) -> int | str | None:
        if labels is None:
            return None
        label = labels[index]
        return self.classes[label] if label < len(self.classes) else label

    def _blank(self, layout: Any) -> Tokens:
        dtype = next(self.generator.parameters()).dtype
        return empty(layout, 1, self.tokenizer.codes, self.tokenizer.width, dtype=dtype)

    @torch.no_grad()
    def _result(self, asked: Asked, hooks: Sequence[Hook]) -> Result:
        leads = generate(self.generator, asked.rows, hooks)
        tokens = stack([row.tokens for row in leads]).to(self.tokenizer.device)
        finished = bool(tokens.known.all())
        pictures = self.tokenizer.decode(tokens) if finished else self.tokenizer.preview(tokens)
        return Result(pictures.float().cpu(), tokens, asked.records)


@dataclass(frozen=True)
class Asked:
    """What was asked for, ready to be drawn."""

    rows: list[Row]
    leads: list[Row]
    records: tuple[dict[str, Any], ...]


def _check_codes(tokenizer: Tokenizer, generator: Generator) -> None:
    drawn = getattr(generator.config, "codebook_size", tokenizer.codebook_size)
    if drawn != tokenizer.codebook_size:
        raise ConfigError(
            f"codebook_size={drawn} of the generator does not fit: "
            f"the tokenizer has {tokenizer.codebook_size} codes"
        )


def _callback(pipeline: Pipeline, callback: Callable[[Pipeline, int, list[Event]], None]) -> Hook:
    def hook(events: list[Event]) -> None:
        callback(pipeline, events[0].step.index, events)

    return hook
