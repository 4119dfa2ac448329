"""Pipeline: tokenizer, generator and conditions as users hold them."""

from __future__ import annotations

import json
import operator
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from limner.core.errors import ConfigError, check, unknown
from limner.core.generator import Generator
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.request import Request, TextEncoder
from limner.core.row import Event, Row
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, empty, stack
from limner.decoding import generate, steps
from limner.decoding.blocks import SpeculationConfig
from limner.decoding.loop import Hook
from limner.decoding.speculation import Speculative
from limner.hub.files import written_whole
from limner.hub.remote import push
from limner.hub.save import load_part, save_part
from limner.layers.scale_memory import ScaleMemory
from limner.pipeline.cache import CacheUse, bounded
from limner.pipeline.compilation import compile_blocks
from limner.pipeline.editing import Editing
from limner.pipeline.index import FORMAT, INDEX, find, read_index
from limner.pipeline.settings import Settings, checked, pictures_asked
from limner.show.images import to_images

T = TypeVar("T")

PIXELS_AT_ONCE = 2**16
"""That CPUs decode at once: more take more memory, and caches hold less of them. GPUs: 16 times."""


@dataclass(frozen=True)
class Result:
    """Pictures that were drawn.

    Args:
        pictures: float32 [B, channels, H, W] in [-1, 1], on the CPU; clips are [B, T, channels,
            H, W].
        tokens: what they were decoded from.
        settings: for every picture, all that is needed to draw it again with the same pipeline.
        cache: what was held of keys and values, where `cache` was set.
    """

    pictures: Tensor
    tokens: Tokens
    settings: tuple[dict[str, Any], ...]
    cache: CacheUse | None = None

    @property
    def images(self) -> list[Image.Image]:
        """The pictures as PIL images; of a clip, its frames in a row."""
        return to_images(self.pictures)

    @property
    def clips(self) -> list[list[Image.Image]]:
        """The frames of every clip as PIL images.

        Raises:
            ConfigError: these are pictures.
        """
        clips = self.pictures.dim() == 5
        check(clips, "pictures", list(self.pictures.shape), "clips, [B, T, channels, H, W]")
        return [to_images(frames) for frames in self.pictures]


@dataclass(frozen=True)
class Preview:
    """What is drawn so far.

    Args:
        step: steps done.
        total: steps in all; None: not known.
        pictures: float32 [B, channels, H, W] in [-1, 1], as the tokenizer previews them; clips are
            [B, T, channels, H, W].
    """

    step: int
    total: int | None
    pictures: Tensor


class Pipeline(Editing):
    """A tokenizer and a generator that draw together.

    Args:
        tokenizer: pictures to tokens and back.
        generator: draws the tokens.
        classes: names of the classes, in the order of their numbers.
        size: default height and width of pictures, in pixels.
        text_encoder: for generators that read text features.
        styles: names of the styles, in the order of their numbers.
        defaults: settings of a call that says nothing of them, {"guidance": 2.0}.
        frames: of clips; None: as the tokenizer says.

    Raises:
        ConfigError: the generator draws other codes than the tokenizer has, or frames are given for
            a tokenizer of pictures.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        generator: Generator,
        classes: Sequence[str] = (),
        size: tuple[int, int] = (256, 256),
        text_encoder: TextEncoder | None = None,
        styles: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
        frames: int | None = None,
    ) -> None:
        _check_codes(tokenizer, generator)
        self.tokenizer = tokenizer.eval()
        self.generator = generator.eval()
        self.generator.canvas = tokenizer.canvas
        self.classes = tuple(classes)
        self.styles = tuple(styles)
        self.defaults = checked(dict(defaults or {}))
        self.size = size
        self.frames = self._frames(frames)
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
        return cls(
            tokenizer,
            generator,
            index["classes"],
            (height, width),
            text_encoder,
            index.get("styles", ()),
            index.get("settings"),
            index.get("frames"),
        )

    def with_generator(self, generator: Generator) -> Pipeline:
        """Return the same pipeline with another generator."""
        return Pipeline(
            self.tokenizer,
            generator,
            self.classes,
            self.size,
            self.text_encoder,
            self.styles,
            self.defaults,
            self.frames,
        )

    def with_draft(self, draft: Pipeline, config: SpeculationConfig | None = None) -> Pipeline:
        """Return the same pipeline, whose steps are drafted by another's smaller generator.

        Args:
            draft: it must have the same tokenizer.
            config: how the draft is used; None: the pictures are distributed as without one.

        Raises:
            ConfigError: the draft's tokens or classes are others.
        """
        _check_latents(draft, self)
        return self.with_generator(Speculative(draft.generator, self.generator, config))

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the pipeline whole or not at all: limner.json, tokenizer/ and model/."""
        with written_whole(directory) as target:
            save_part(self.tokenizer, target / "tokenizer")
            save_part(self.generator, target / "model")
            (target / INDEX).write_text(self.index(), encoding="utf-8")

    def index(self) -> str:
        """Return the text of limner.json, which makes a directory with both parts a pipeline."""
        index: dict[str, Any] = {"limner": FORMAT, "classes": list(self.classes)}
        if self.styles:
            index["styles"] = list(self.styles)
        index["size"] = list(self.size)
        if self.frames is not None:
            index["frames"] = self.frames
        if self.defaults:
            index["settings"] = self.defaults
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
        styles: Sequence[int | str] | None = None,
        hooks: Sequence[Hook] = (),
        callback_on_step_end: Callable[[Pipeline, int, list[Event]], None] | None = None,
        **settings: Any,
    ) -> Result:
        """Draw pictures.

        Args:
            classes: a class name or number for each picture.
            prompts: a text for each picture.
            styles: a style name or number for each picture, where the generator knows styles.
            hooks: called after every step with what each row drew.
            callback_on_step_end: called as callback(pipeline, step, events) after every step; it
                may raise `limner.decoding.loop.Cancelled` to stop.
            **settings: see `Settings`: count, seed, guidance, temperature, top_k, top_p, min_p,
                steps, size, frames, processors, smooth, annealing.

        Raises:
            ConfigError: a class, size or setting that is not accepted.
        """
        asked = self._ask(classes, prompts, styles, self.settled(settings))
        if callback_on_step_end is not None:
            hooks = [*hooks, _callback(self, callback_on_step_end)]
        return self._result(asked, hooks)

    def stream(
        self,
        classes: Sequence[int | str] | None = None,
        prompts: Sequence[str] | None = None,
        *,
        styles: Sequence[int | str] | None = None,
        every: int = 1,
        **settings: Any,
    ) -> Iterator[Preview]:
        """Draw pictures and yield a preview after every so many steps, and after the last.

        Other arguments are as for a call.
        """
        check(every >= 1, "every", every, "at least 1")
        asked = self._ask(classes, prompts, styles, self.settled(settings))
        return self._previews(asked, every)

    def _previews(self, asked: Asked, every: int) -> Iterator[Preview]:
        drawn = steps(self.generator, asked.rows, memory=asked.memory)
        for number, events in enumerate(drawn, start=1):
            if number % every and not all(event.finished for event in events):
                continue
            tokens = stack([row.tokens for row in asked.leads])
            step = events[0].step
            yield Preview(step.index + 1, step.total, self.preview(tokens))

    def draw_from(
        self,
        given: Tokens,
        classes: Sequence[int | str] | None = None,
        prompts: Sequence[str] | None = None,
        *,
        styles: Sequence[int | str] | None = None,
        hooks: Sequence[Hook] = (),
        **settings: Any,
    ) -> Result:
        """Draw what is not known of tokens [1, N]; see `Editing` for the usual ways to have some.

        Args:
            given: of a picture of the size that the settings name.
            classes, prompts, styles, hooks, **settings: as for a call; several pictures are
                variants of what is given.
        """
        asked = self._ask(classes, prompts, styles, self.settled(settings), given)
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
        return _number("class", name, self.classes)

    def style_number(self, name: int | str) -> int:
        """Return the number of a style given by name or number.

        Raises:
            ConfigError: no such style, or no styles at all.
        """
        if not self.styles:
            raise ConfigError(f"style={name!r} is not accepted: this model knows no styles")
        return _number("style", name, self.styles)

    def settled(self, given: dict[str, Any]) -> Settings:
        """Return how pictures are drawn if so much is said of it.

        Raises:
            ConfigError: a setting that does not exist or is not accepted.
        """
        return Settings(**{**self.defaults, **checked(given)})

    def _ask(
        self,
        classes: Sequence[int | str] | None,
        prompts: Sequence[str] | None,
        styles: Sequence[int | str] | None,
        settings: Settings,
        given: Tokens | None = None,
    ) -> Asked:
        """Check everything and make the rows; nothing is drawn yet."""
        count = pictures_asked(classes, prompts, styles, settings.count)
        settings.check_seeds(count)
        labels = _repeated(classes, self.class_number, count)
        texts = _repeated(prompts, str, count)
        drawn_in = _repeated(styles, self.style_number, count)
        request = Request(count, labels, texts, drawn_in, self.text_encoder)
        condition = self.generator.condition.ask(request)
        height, width = settings.size or self.size
        frames = self._frames(settings.frames or self.frames)
        layout = self.generator.layout(self.tokenizer, height, width, settings.steps, frames)
        codes = self._codes_to_mix() if settings.smooth or self.generator.mixes else None
        options = settings.options(self.generator.guidance, codes)
        if options.annealing is not None:
            options.annealing.check_fits(self.generator.head)
        leads, rows = [], []
        for index in range(count):
            one = {name: value[index : index + 1] for name, value in condition.items()}
            tokens = self._blank(layout, codes) if given is None else _given(given, codes)
            noise = SeededNoise(settings.seed_of(index))
            made = self.generator.begin(tokens.to(self.generator.device), one, options, noise)
            leads.append(made[0])
            rows += made
        records = tuple(
            settings.record(
                index,
                (_name(labels, index, self.classes), _name(drawn_in, index, self.styles)),
                texts,
                (height, width),
                frames,
            )
            for index in range(count)
        )
        memory = None
        if settings.cache is not None:
            memory = bounded(self.generator.memory(rows), layout, settings.cache)
        return Asked(rows, leads, records, height * width * (frames or 1), memory)

    def _frames(self, wanted: int | None) -> int | None:
        """Return the frames of clips that are to be drawn; None: pictures are."""
        usual = self.tokenizer.frames or None
        fits = usual is not None or wanted is None
        check(fits, "frames", wanted, "left out: this pipeline draws pictures")
        return wanted or usual

    def _blank(self, layout: Any, codes: Tensor | None) -> Tokens:
        if codes is not None:
            return empty(layout, 1, self.tokenizer.codes, codes.shape[1], dtype=codes.dtype)
        dtype = next(self.generator.parameters()).dtype
        return empty(layout, 1, self.tokenizer.codes, self.tokenizer.width, dtype=dtype)

    def _codes_to_mix(self) -> Tensor:
        """Return what each code says, float [V, D].

        Raises:
            ConfigError: tokens cannot hold mixtures of codes.
        """
        codes = self.tokenizer.code_vectors() if self.tokenizer.mixes else None
        if codes is None:
            name = type(self.tokenizer).__name__
            wish = "this generator" if self.generator.mixes else "smooth=True"
            raise ConfigError(f"{wish} is not accepted: codes of {name} cannot be mixed")
        return codes.detach()

    @torch.no_grad()
    def _result(self, asked: Asked, hooks: Sequence[Hook]) -> Result:
        leads = generate(self.generator, asked.rows, hooks, asked.memory)
        tokens = stack([row.tokens for row in leads]).to(self.tokenizer.device)
        show = self.tokenizer.decode if tokens.known.all() else self.tokenizer.preview
        few = PIXELS_AT_ONCE if tokens.known.device.type == "cpu" else 16 * PIXELS_AT_ONCE
        at_once = max(1, few // asked.pixels)
        parts = [
            show(tokens.part(slice(first, first + at_once))).float().cpu()
            for first in range(0, len(tokens), at_once)
        ]
        use = None if asked.memory is None else CacheUse(asked.memory.peak, asked.memory.whole)
        return Result(torch.cat(parts), tokens, asked.records, use)


def _given(given: Tokens, codes: Tensor | None) -> Tokens:
    """Return a row's own copy of what is given; with the values of its codes to mix with others."""
    tokens = given.clone()
    if codes is not None and tokens.ids is not None:
        tokens.values = codes[tokens.ids[..., 0]]
    return tokens


@dataclass(frozen=True)
class Asked:
    """What was asked for, ready to be drawn.

    Args:
        pixels: of a picture, or of all frames of a clip.
    """

    rows: list[Row]
    leads: list[Row]
    records: tuple[dict[str, Any], ...]
    pixels: int
    memory: ScaleMemory | None = None


def _number(kind: str, name: int | str, names: Sequence[str]) -> int:
    """Return the number of what is given by name or number."""
    if not isinstance(name, str):
        return operator.index(name)
    for fold in (str, str.casefold):  # names may differ in case alone
        known = [fold(each) for each in names]
        if fold(name) in known:
            return known.index(fold(name))
    if name.isdecimal():
        return int(name)
    raise unknown(kind, name, names)


def _name(numbers: Sequence[int] | None, index: int, names: Sequence[str]) -> int | str | None:
    """Return the name of number `index`, or the number where it has none."""
    if numbers is None:
        return None
    number = numbers[index]
    return names[number] if number < len(names) else number


def _repeated(given: Sequence[Any] | None, read: Callable[[Any], T], count: int) -> list[T] | None:
    """Return what is given, read and repeated to `count`."""
    return None if given is None else [read(each) for each in given] * (count // len(given))


def _check_codes(tokenizer: Tokenizer, generator: Generator) -> None:
    drawn = getattr(generator.config, "codebook_size", tokenizer.codebook_size)
    if drawn != tokenizer.codebook_size:
        raise ConfigError(
            f"codebook_size={drawn} of the generator does not fit: "
            f"the tokenizer has {tokenizer.codebook_size} codes"
        )


def _check_latents(draft: Pipeline, target: Pipeline) -> None:
    """Raise ConfigError unless the same tokens mean the same to both."""
    name, accepted = type(draft.tokenizer).__name__, "the target's: its latents are others"
    ours, theirs = (pipeline.tokenizer.state_dict() for pipeline in (target, draft))
    alike = draft.tokenizer.config == target.tokenizer.config and ours.keys() == theirs.keys()
    same = alike and all(ours[each].equal(theirs[each].to(ours[each])) for each in ours)
    check(same, "tokenizer", f"the draft's {name}", accepted)
    check(draft.classes == target.classes, "classes", list(draft.classes), "the target's")


def _callback(pipeline: Pipeline, callback: Callable[[Pipeline, int, list[Event]], None]) -> Hook:
    def hook(events: list[Event]) -> None:
        callback(pipeline, events[0].step.index, events)

    return hook
