"""What a source holds, told from its names and from the headers of some of its pictures."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from limner.core.errors import check
from limner.data.images import Header, read_header
from limner.data.source import Source, check_some, decoders, in_words
from limner.data.unreadable import Unreadable

SHOWN = 5  # classes and files that a text names

MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with transparency",
    "I": "16-bit grey",
    "I;16": "16-bit grey",
    "P": "palette",
    "RGB": "colour",
    "RGBA": "colour with transparency",
}
"""Pillow's names of kinds of pixels, in words; others are shown as they are."""


@dataclass(frozen=True)
class Spread:
    """Least, middle and largest of some numbers."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class Captions:
    """What is said about the pictures that were looked at.

    Args:
        written: number of captions that are more than the file name in words or the class.
        distinct: number of different captions.
        words: words a caption.
        examples: some of them.
    """

    written: int
    distinct: int
    words: Spread
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """What a source holds.

    Args:
        name: of the source.
        total: number of its pictures.
        classes: name -> number of pictures, in the order of the labels.
        looked: number of pictures looked at, evenly spread; what follows is about them.
        short_side: in pixels; None: no picture can be read.
        aspect: width / height, of upright pictures; None: no picture can be read.
        modes: Pillow's name of a way to hold colours ("RGB", "L", "CMYK") -> number of pictures.
        animated: number of pictures with several frames, of which the first counts.
        captions: of those looked at.
        unreadable: key -> reason. Damage behind the header shows only when a picture is decoded.
        duplicates: groups of keys of files that are the same, byte for byte.
        bytes: size of the files.
    """

    name: str
    total: int
    classes: Mapping[str, int]
    looked: int
    short_side: Spread | None
    aspect: Spread | None
    modes: Mapping[str, int]
    animated: int
    captions: Captions
    unreadable: Mapping[str, str]
    duplicates: tuple[tuple[str, ...], ...]
    bytes: int

    def lines(self) -> list[str]:
        """Return the survey as text, a fact a line."""
        lines = [_whole(self), f"classes: {_classes(self.classes)}"]
        if self.short_side is not None and self.aspect is not None:
            lines.append(f"short side: {_span(self.short_side, 'g')} pixels")
            lines.append(f"width / height: {_span(self.aspect, '.2f')}")
            moving = f"; {self.animated:,} animated (the first frame counts)"
            lines.append(f"colours: {_modes(self.modes)}{moving if self.animated else ''}")
        lines.append(f"captions: {_captions(self.captions, self.looked)}")
        if self.duplicates:
            extra = sum(len(group) - 1 for group in self.duplicates)
            groups = [" = ".join(group[:3]) for group in self.duplicates]
            lines.append(f"copies of others: {extra:,} ({_some(groups)})")
        if self.unreadable:
            reasons = [f"{key}: {reason}" for key, reason in self.unreadable.items()]
            lines.append(f"unreadable: {len(reasons):,} ({_some(reasons)})")
        return lines


@dataclass(frozen=True)
class _Look:
    """One picture that was looked at."""

    index: int
    key: str
    caption: str
    label: str
    found: Header | Unreadable
    bytes: int


def survey(source: Source, most: int = 2000) -> Survey:
    """Look at a source without loading it: its names, and the headers of some pictures.

    Args:
        source: that is looked at.
        most: largest number of pictures that are opened, evenly spread over the source.

    Raises:
        DataError: the source has no pictures.
        ConfigError: a number that is not accepted.
    """
    check(most >= 1, "most", most, "at least 1")
    check_some(source)
    total = len(source)
    count = min(most, total)
    with decoders() as pool:
        looks = list(pool.map(lambda i: _look(source, i * total // count), range(count)))
    headers = [look.found for look in looks if isinstance(look.found, Header)]
    bad = {look.key: look.found.reason for look in looks if isinstance(look.found, Unreadable)}
    labels = Counter(source.labels.tolist())
    return Survey(
        name=source.name,
        total=total,
        classes={name: labels[label] for label, name in enumerate(source.classes)},
        looked=count,
        short_side=_spread([min(header.width, header.height) for header in headers]),
        aspect=_spread([header.width / header.height for header in headers]),
        modes=dict(Counter(header.mode for header in headers).most_common()),
        animated=sum(header.animated for header in headers),
        captions=_told(looks),
        unreadable=bad,
        duplicates=_copies(source, looks),
        bytes=sum(look.bytes for look in looks),
    )


def _look(source: Source, index: int) -> _Look:
    names = (index, source.keys[index], source.caption(index))
    label = source.classes[int(source.labels[index])]
    try:
        with source.open(index) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            return _Look(*names, label, read_header(file), size)
    except OSError as error:
        return _Look(*names, label, Unreadable(error.strerror or str(error)), 0)


def _copies(source: Source, looks: Sequence[_Look]) -> tuple[tuple[str, ...], ...]:
    """Groups of different keys whose files are the same; only files of one size are read."""
    sizes = Counter(look.bytes for look in {look.key: look for look in looks}.values())
    keys: dict[bytes, dict[str, None]] = {}
    for look in looks:
        if isinstance(look.found, Header) and sizes[look.bytes] > 1:
            with source.open(look.index) as file:
                content = hashlib.sha256(file.read()).digest()
            keys.setdefault(content, {})[look.key] = None
    return tuple(tuple(group) for group in keys.values() if len(group) > 1)


def _told(looks: Sequence[_Look]) -> Captions:
    captions = [look.caption for look in looks]
    written = [
        look.caption for look in looks if look.caption not in (in_words(look.key), look.label)
    ]
    distinct = dict.fromkeys(captions)
    words = _spread([len(caption.split()) for caption in captions])
    assert words is not None
    examples = tuple(dict.fromkeys(written or captions))[:3]
    return Captions(len(written), len(distinct), words, examples)


def _spread(values: Sequence[float]) -> Spread | None:
    return Spread(min(values), median(values), max(values)) if values else None


# --- words ------------------------------------------------------------------------------------


def _whole(survey: Survey) -> str:
    """Say how much there is: "birds: 12 pictures, 1.5 MB"."""
    pictures = f"{survey.name}: {survey.total:,} picture{'' if survey.total == 1 else 's'}"
    size = _size(survey.bytes * survey.total / survey.looked)
    if survey.looked == survey.total:
        return f"{pictures}, {size}"
    return f"{pictures}, about {size}; {survey.looked:,} of them were looked at"


def _classes(classes: Mapping[str, int]) -> str:
    """Say how many classes there are and how large: "2 (cat 30, dog 4)"."""
    text = f"{len(classes):,} ({_some([f'{name} {count:,}' for name, count in classes.items()])})"
    if len(classes) <= SHOWN:
        return text
    return f"{text}, {min(classes.values()):,} to {max(classes.values()):,} pictures each"


def _modes(modes: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {MODES.get(mode, mode)}" for mode, count in modes.items())


def _captions(captions: Captions, looked: int) -> str:
    if not captions.written:
        return "none; the names of files or classes stand for them"
    examples = ", ".join(map(repr, captions.examples))
    return (
        f"{captions.written:,} of {looked:,}, {captions.distinct:,} different; "
        f"words: {_span(captions.words, 'g')}; such as {examples}"
    )


def _span(spread: Spread, form: str) -> str:
    """Say "3 to 9 (5 in the middle)", or "5" where all are alike."""
    least, middle, most = (format(v, form) for v in (spread.least, spread.median, spread.most))
    return least if least == most else f"{least} to {most} ({middle} in the middle)"


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:SHOWN]) + (", ..." if len(texts) > SHOWN else "")


def _size(number: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
