"""ARBooth's mechanism: where a subject stands in a text, what is tuned, what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.conditions import CaptionCondition, ClassCondition, TextFeatures
from limner.conditions.subjects import SubjectBeside, SubjectInText
from limner.core.errors import ConfigError
from limner.core.generator import Packed
from limner.core.layout import pyramid
from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS
from limner.core.request import Request
from limner.core.row import Condition, Options
from limner.core.slots import batch
from limner.core.tokens import Tokens, empty, from_ids, stack
from limner.decoding import generate
from limner.decoding.teaching import packed_as_drawn
from limner.heads.distillation import hard_distance, soft_distance
from limner.hub.build import weightless
from limner.models.arbooth import (
    ARBooth,
    ARBoothConfig,
    EachScaleAlone,
    counted,
    scale_weights,
)
from limner.models.infinity import Infinity, InfinityConfig
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.models.var import VAR, VARConfig
from limner.orders import scale_slots
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBits, MultiScaleBitsConfig
from limner.verify.drawing import draw

LAYOUT = pyramid(((1, 1), (2, 2), (2, 3)))
CONFIG = InfinityConfig(
    width=24, depth=2, heads=3, bits=5, text_length=9, text_width=16, levels=4, gate_gain=1.0
)


def small(**changes: Any) -> Infinity:
    torch.manual_seed(0)
    model = Infinity(replace(CONFIG, **changes)).eval()
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=rng))
    model.canvas = MultiScaleBits(MultiScaleBitsConfig(width=5))
    return model


def texts(*lengths: int, places: int = 7) -> Condition:
    rng = torch.Generator().manual_seed(2)
    present = torch.arange(places) < torch.tensor(lengths).unsqueeze(1)
    text = torch.randn(len(lengths), places, 16, generator=rng) * present.unsqueeze(-1)
    return {"text": text, "present": present, "null": torch.zeros(len(lengths), dtype=torch.bool)}


def drawn(model: Infinity, condition: Condition) -> Tokens:
    rows = []
    for index in range(len(condition["null"])):
        own = {name: value[index : index + 1] for name, value in condition.items()}
        rows += model.begin(empty(LAYOUT, codes=5), own, Options(), SeededNoise(index))
    return stack([row.tokens for row in generate(model, rows)])


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_word_gives_way_to_learned_vectors(rows: int) -> None:
    inner = TextFeatures(9, 16)
    condition = SubjectInText(inner, "<it>", rows, 16)
    torch.nn.init.normal_(condition.words)
    given, places = texts(4, 7, 2, 5), [1, 6, 0, -1]
    asked = condition.with_room(given, torch.tensor(places))
    said = condition.prefix(asked)
    for row, place in enumerate(places):
        text = given["text"][row][given["present"][row]]
        if place >= 0:
            text = torch.cat([text[:place], condition.words, text[place + 1 :]])
        text = text[: inner.length]
        assert asked["present"][row].sum() == len(text)
        assert torch.equal(said[row, : len(text)], text)

    null = condition.null(asked)
    assert torch.equal(condition.prefix(null)[0], inner.unconditional[: said.shape[1]])
    dropped = condition.drop(asked, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(condition.prefix(dropped), condition.prefix(null))
    kept = condition.drop(asked, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(condition.prefix(kept), said)


class Encoder:
    """A text encoder whose features are lengths of words."""

    def encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        words = [prompt.split() for prompt in prompts]
        longest = max(map(len, words))
        features = torch.zeros(len(words), longest, 16)
        for row, each in enumerate(words):
            features[row, : len(each)] = torch.tensor([len(word) for word in each]).unsqueeze(1)
        return features, torch.arange(longest) < torch.tensor([len(w) for w in words]).unsqueeze(1)

    def encode_around(self, prompts: list[str], word: str) -> tuple[Tensor, Tensor, Tensor]:
        split = [prompt.split() for prompt in prompts]
        places = [words.index(word) if word in words else -1 for words in split]
        return *self.encode(prompts), torch.tensor(places)


def test_prompts_are_read_around_the_word() -> None:
    condition = SubjectInText(TextFeatures(9, 16), "<it>", 3, 16)
    prompts = ["a photo of <it> dog", "a dog"]
    asked = condition.ask(Request(2, prompts=prompts, encoder=Encoder()))
    assert asked["present"].sum(1).tolist() == [7, 2]
    assert asked["subject"].tolist() == [[-1, -1, -1, 0, 1, 2, -1, -1, -1], [-1] * 9]
    assert asked["text"][0, :, 0].tolist() == [1, 5, 2, 0, 0, 0, 3, 0, 0]
    plain = condition.ask(Request(1, prompts=["a dog"], encoder=Encoder()))
    assert torch.equal(plain["text"][0], asked["text"][1])
    assert condition.ask(Request(1))["null"].tolist() == [True]

    class Plain:
        encode = Encoder().encode

    with pytest.raises(ConfigError, match="says where it stands"):
        condition.ask(Request(2, prompts=prompts, encoder=Plain()))


def test_a_class_more_is_the_subject() -> None:
    condition = SubjectBeside(ClassCondition(3, 4), "rex", 1, 4, kind=1)
    asked = condition.ask(Request(3, labels=[3, 1, 2]))
    assert asked["label"].tolist() == [1, 1, 2] and asked["subject"].tolist() == [
        True,
        False,
        False,
    ]
    assert torch.equal(condition.prefix(asked)[0], condition.prefix(asked)[1]), "nothing yet"
    torch.nn.init.ones_(condition.words)
    said = condition.prefix(asked)
    torch.testing.assert_close(said[0], said[1] + 1)
    null = condition.null(asked)
    assert not null["subject"].any() and null["label"].tolist() == [3, 3, 3]
    with pytest.raises(ConfigError, match="class=4"):
        condition.ask(Request(1, labels=[4]))


def test_a_caption_with_the_word_is_the_subject() -> None:
    condition = SubjectBeside(CaptionCondition(2, 8, 2), "rex", 2, 8)
    asked = condition.ask(Request(2, prompts=["a photo of rex dog", "a photo of dog"]))
    assert asked["subject"].tolist() == [True, False]
    assert torch.equal(asked["words"][0], asked["words"][1])
    torch.nn.init.ones_(condition.words)
    said = condition.prefix(asked)
    torch.testing.assert_close(said[0], said[1] + 1)


def test_weights_of_published_size() -> None:
    config = MODELS.get_variant("arbooth-2b")
    with weightless():
        model = ARBooth(config.config)
    assert sum(weight.numel() for weight in model.parameters()) == config.published
    tuned = model.tuned(("cross-attention", "mlp"))
    assert sum(weight.numel() for weight in tuned.values()) == 1_611_145_216
    assert model.base.config.level_blocks == (0, 4, 8, 12, 16, 20, 24, 28)


def test_what_is_tuned() -> None:
    infinity = ARBooth.around(small(), "<it>", (4, 16), None)
    names = set(infinity.tuned(("cross-attention", "mlp")))
    assert len(names) == 1 + 2 * (6 + 4)
    assert not any("norm" in name or "attention" in name for name in names)
    config = VARConfig(width=16, depth=2, heads=2, codebook_size=8, latent=4, scales=(1, 2))
    var = ARBooth.around(VAR(config), "rex", (1, 16), 0)
    assert len(var.tuned(("mlp", "attention"))) == 1 + 2 * (4 + 6)
    with pytest.raises(ConfigError, match="VAR has no cross-attention"):
        var.tuned(("cross-attention",))
    with pytest.raises(ConfigError, match="one that is not tuned yet"):
        ARBoothConfig(family="arbooth")


def test_an_untouched_student_is_what_it_was() -> None:
    teacher = small()
    student = ARBooth.around(teacher, "<it>", (4, 16), None).eval()
    condition = texts(4, 6)
    tokens = drawn(teacher, condition)
    with torch.no_grad():
        before = teacher(packed_as_drawn(teacher, tokens, condition), NoMemory())
        after = student(packed_as_drawn(student, tokens, condition), NoMemory())
    assert torch.equal(before, after)
    assert soft_distance(after, before).abs() < 1e-6
    assert soft_distance(after + torch.randn_like(after), before) > 0.01
    assert hard_distance(after, before, student.head) < hard_distance(-after, before, student.head)


@pytest.mark.parametrize("kind", ["var", "llamagen"])
def test_one_pass_is_every_step_of_a_drawing(kind: str) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": 16, "depth": 1, "heads": 2, "codebook_size": 8, "classes": 2}
    model: Any
    if kind == "var":
        from limner.tokenizers.patch_scales import PatchScales, PatchScalesConfig

        tokenizer = PatchScales(PatchScalesConfig(patch=4, width=4, codebook_size=8, scales=(1, 2)))
        layout = tokenizer.layout(8, 8)
        model = VAR(VARConfig(**sizes, latent=4, scales=(1, 2), gate_gain=1.0)).eval()
        model.canvas = tokenizer.canvas
        model.output.weight.data.normal_()
    else:
        layout = pyramid(((2, 3),))
        model = LlamaGen(LlamaGenConfig(**sizes, multiple_of=8)).eval()
        model.output.weight.data.normal_()
    seen: dict[int, Tensor] = {}

    def record(logits: Tensor, row: Any, tokens: Tensor) -> Tensor:
        seen.update(zip(tokens.tolist(), logits, strict=True))
        return logits

    condition = {"label": torch.tensor([1])}
    options = Options(processors=(record,))
    rows = model.begin(empty(layout, codes=1), condition, options, SeededNoise(0))
    (row,) = generate(model, rows)
    with torch.no_grad():
        logits = model(packed_as_drawn(model, row.tokens, condition), NoMemory())
    stepwise = torch.stack([seen[token] for token in sorted(seen)])
    torch.testing.assert_close(logits[0], stepwise, rtol=1e-4, atol=1e-5)


def test_less_weight_is_less_loss() -> None:
    model, condition = small(), texts(4, 6)
    ids = torch.randint(2, (2, len(LAYOUT), 5), generator=torch.Generator().manual_seed(3))
    tokens = from_ids(LAYOUT, ids)
    weight = scale_weights(LAYOUT, full=2, later=0.5)
    assert weight.tolist() == [1.0] * 5 + [0.5] * 6
    later = (LAYOUT.segment_of() == 2).float()

    def loss(weight: Tensor) -> Tensor:
        return counted(model.loss(tokens, condition, None, weight), weight).total

    whole = model.loss(tokens, condition).total
    torch.testing.assert_close(loss(torch.ones_like(weight)), whole)
    torch.testing.assert_close(whole - loss(weight), 0.5 * loss(later))
    first = (LAYOUT.segment_of() < 2).float()
    torch.testing.assert_close(
        loss(first) + loss(later), whole, msg="the pass ends after two scales"
    )
    assert scale_weights(pyramid(tuple((n, n) for n in range(1, 14)))).unique().tolist() == [0.5, 1]


def test_the_released_teacher_sees_one_scale_at_a_time() -> None:
    model, condition = small(reference="own"), texts(4)
    alone = EachScaleAlone(model.config).eval()
    alone.load_state_dict(model.state_dict())
    fed = torch.randn(1, len(LAYOUT), 5, generator=torch.Generator().manual_seed(4))
    tokens = from_ids(LAYOUT, torch.zeros(1, len(LAYOUT), 5, dtype=torch.int64))

    def logits(of: Infinity, scale: int) -> Tensor:
        slots = batch([scale_slots(LAYOUT, scale)])
        part = Packed(tokens, slots, [condition], fed=fed[:, LAYOUT.span(scale)])
        with torch.no_grad():
            return of(part, NoMemory())

    assert torch.equal(logits(alone, 0), logits(model, 0))
    place = torch.arange(5, 11).unsqueeze(0)
    turned = alone.rotation(place, LAYOUT, torch.float32)
    assert torch.equal(turned, model.rotation(place - 5, LAYOUT, torch.float32))
    assert not torch.equal(turned, model.rotation(place, LAYOUT, torch.float32))
    assert isinstance(alone.memory([]), NoMemory)


def test_an_untouched_student_is_far_from_the_released_teacher_alone() -> None:
    """A teacher that sees all scales is what the student is; one that sees its own is not."""
    model, condition = small(), texts(4, 6)
    alone = EachScaleAlone(model.config).eval()
    alone.load_state_dict(model.state_dict())
    alone.canvas = model.canvas
    student = ARBooth.around(model, "<it>", (4, 16), None).eval()
    distances = []
    for teacher in (model, alone):
        noises = [SeededNoise(row) for row in range(2)]
        blank = empty(LAYOUT, 2, codes=5)
        with torch.no_grad():
            drawing = draw(teacher, LAYOUT, condition, Options(), noises, blank)
            seen = packed_as_drawn(student, drawing.tokens, condition)
            distances.append(float(soft_distance(student(seen, NoMemory()), drawing.logits)))
    assert abs(distances[0]) < 1e-6
    assert distances[1] > 0.01


def test_official_names_there_and_back() -> None:
    from limner.hub.convert import detect
    from limner.hub.official import arbooth

    model = ARBooth.around(small(level_blocks=(0, 1)), "<placeholder>", (4, 16), None)
    official = arbooth.TABLE.to_official(model.state_dict())
    assert {"special_token", "cfg_uncond", "blocks.1.ca.mat_q.weight"} <= official.keys()
    chunked = {
        name.replace("blocks.1.", "block_chunks.1.module.0.").replace(
            "blocks.0.", "block_chunks.0.module.0."
        ): tensor
        for name, tensor in official.items()
    }
    converter = detect(chunked)
    assert converter.system == "arbooth"
    config = converter.config(chunked, {"base.text_length": 9})
    assert (config.rows, config.width, config.base["level_blocks"]) == (4, 16, [0, 1])
    again = converter.ours(config, chunked)
    assert again.keys() == model.state_dict().keys()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
