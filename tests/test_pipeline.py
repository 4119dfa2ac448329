"""The pipeline, as users hold it: a fitted tokenizer of 32 pixels and a tiny random generator."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from limner.core.errors import CheckpointError, ConfigError
from limner.core.row import Event
from limner.data import load_packaged
from limner.decoding.loop import Cancelled
from limner.heads.guidance import Constant, Interval
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.pipeline import Pipeline, Result
from limner.tokenizers.patches import PatchKMeans, PatchKMeansConfig

SIZE, CODES, TOKENS = 32, 16, 16
CLASSES = ("Fox", "Oak", "Tulip", "Whale", "7")


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Float [24, 3, 32, 32]."""
    return load_packaged(size=SIZE).to_float(slice(0, 1200, 50))


@pytest.fixture(scope="module")
def tokenizer(pictures: Tensor) -> PatchKMeans:
    made = PatchKMeans(PatchKMeansConfig(patch=8, width=8, codebook_size=CODES))
    made.fit(pictures, torch.Generator().manual_seed(0))
    return made


def generator(condition: str = "class") -> LlamaGen:
    torch.manual_seed(0)
    config = LlamaGenConfig(
        width=16, depth=2, heads=2, codebook_size=CODES, classes=len(CLASSES), text_length=3,
        condition=condition, multiple_of=8,
    )  # fmt: skip
    model = LlamaGen(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    return model.double()  # ids are then the same in any batch


@pytest.fixture(scope="module")
def pipeline(tokenizer: PatchKMeans) -> Pipeline:
    return Pipeline(tokenizer, generator(), CLASSES, (SIZE, SIZE))


@pytest.fixture(scope="module")
def captioned(tokenizer: PatchKMeans) -> Pipeline:
    return Pipeline(tokenizer, generator("caption"), size=(SIZE, SIZE))


@pytest.fixture(scope="module")
def folder(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `pipeline` is saved; not to be changed."""
    path = tmp_path_factory.mktemp("saved") / "pipeline"
    pipeline.save_pretrained(path)
    return path


def ids(result: Result) -> Tensor:
    """Int64 [B, N]."""
    assert result.tokens.ids is not None
    return result.tokens.ids[..., 0]


# saving and loading


def test_a_saved_pipeline_draws_the_same_pictures_bit_for_bit(
    pipeline: Pipeline, folder: Path
) -> None:
    again = Pipeline.from_pretrained(folder)
    assert again.classes == CLASSES
    assert again.size == (SIZE, SIZE)
    wanted = pipeline(classes=["Oak", 3], seed=5, guidance=2.0, top_p=0.9)
    found = again(classes=["Oak", 3], seed=5, guidance=2.0, top_p=0.9)
    assert torch.equal(found.pictures, wanted.pictures)
    assert torch.equal(ids(found), ids(wanted))
    assert found.settings == wanted.settings


def test_the_pipeline_of_what_was_made_is_found(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "generator")
    (tmp_path / "log.jsonl").write_text("{}\n")
    found = Pipeline.from_pretrained(tmp_path)(classes=[0]).pictures
    assert torch.equal(found, Pipeline.from_pretrained(str(folder))(classes=[0]).pictures)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, "limner.json is missing"),
        ("[]", "mapping"),
        ({"limner": 2}, "format 2: known: 1"),
        ({"classes": None}, "classes must be a list"),
        ({"size": ["32", "32"]}, "size must be a list"),
        ({"size": [32, 32, 32]}, "height and width"),
    ],
)
def test_a_broken_index_is_named(folder: Path, tmp_path: Path, index: Any, message: str) -> None:
    path = tmp_path / "broken"
    shutil.copytree(folder, path)
    file = path / "limner.json"
    if isinstance(index, dict):
        file.write_text(json.dumps(json.loads(file.read_text()) | index))
    elif isinstance(index, str):
        file.write_text(index)
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match=message):
        Pipeline.from_pretrained(path)


def test_a_missing_part_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "part")
    (tmp_path / "part" / "model" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        Pipeline.from_pretrained(tmp_path / "part")
    with pytest.raises(CheckpointError, match="nowhere"):
        Pipeline.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_generator_takes_a_dtype_and_pictures_stay_float32(
    folder: Path, dtype: torch.dtype
) -> None:
    loaded = Pipeline.from_pretrained(folder, dtype=dtype, device="cpu")
    cast = Pipeline.from_pretrained(folder).to("cpu", dtype)
    for each in (loaded, cast):
        assert {weight.dtype for weight in each.generator.parameters()} == {dtype}
        kept = each.tokenizer.state_dict().values()
        assert {tensor.dtype for tensor in kept if tensor.is_floating_point()} == {torch.float32}
    drawn = [each(classes=[1, 2], guidance=2.0, seed=3) for each in (loaded, cast)]
    assert drawn[0].pictures.dtype == torch.float32
    assert torch.equal(drawn[0].pictures, drawn[1].pictures)


# what is asked for


def test_a_picture_for_every_class(pipeline: Pipeline) -> None:
    result = pipeline(classes=["Fox", 3], seed=1)
    assert result.pictures.shape == (2, 3, SIZE, SIZE)
    assert result.pictures.dtype == torch.float32
    assert result.pictures.abs().max() <= 1
    assert result.tokens.known.all()
    assert [image.size for image in result.images] == [(SIZE, SIZE)] * 2
    assert [image.mode for image in result.images] == ["RGB"] * 2
    decoded = pipeline.tokenizer.decode(result.tokens)
    assert torch.equal(result.pictures, decoded)
    assert [each["class"] for each in result.settings] == ["Fox", "Whale"]
    other = pipeline(classes=["Oak", 3], seed=1)
    assert not torch.equal(ids(result)[0], ids(other)[0])
    assert torch.equal(ids(result)[1], ids(other)[1])


@pytest.mark.parametrize(
    ("name", "number"),
    [("Oak", 1), ("oak", 1), ("WHALE", 3), (2, 2), ("2", 2), ("7", 4), (torch.tensor(3), 3)],
)
def test_classes_by_name_or_number(pipeline: Pipeline, name: Any, number: int) -> None:
    assert pipeline.class_number(name) == number


def test_classes_that_differ_in_case_alone(tokenizer: PatchKMeans) -> None:
    pipeline = Pipeline(tokenizer, generator(), ("fox", "FOX", "ſ"))
    assert [pipeline.class_number(name) for name in ("fox", "FOX", "Fox", "S")] == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Tulp", "did you mean 'Tulip'"),
        ("whales", "did you mean 'Whale'"),
        ("²", "unknown class"),
        (5, "class=5 .* from 0 to 4"),
        (-1, "class=-1 .* from 0 to 4"),
        ("12", "class=12 .* from 0 to 4"),
    ],
)
def test_a_class_that_does_not_exist(pipeline: Pipeline, name: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline(classes=["Fox", name])


def test_classes_without_names(tokenizer: PatchKMeans) -> None:
    for names in ((), ("Fox",)):
        nameless = Pipeline(tokenizer, generator(), names, (SIZE, SIZE))
        assert nameless(classes=[3]).settings[0]["class"] == 3
        with pytest.raises(ConfigError, match="unknown class 'Oak'"):
            nameless(classes=["Oak"])


def test_nothing_asked_for_is_the_null_class(pipeline: Pipeline) -> None:
    free = pipeline(count=2, seed=4)
    assert [each["class"] for each in free.settings] == [None, None]
    assert torch.equal(ids(free), ids(pipeline(classes=[0, 0], seed=4, guidance=0.0)))


def test_prompts(captioned: Pipeline) -> None:
    result = captioned(prompts=["a red fox", "an oak"], count=2, seed=2)
    assert [each["prompt"] for each in result.settings] == ["a red fox", "an oak"] * 2
    assert [each["class"] for each in result.settings] == [None] * 4
    same = captioned(prompts=["A red fox ", "a whale"], seed=2)
    assert torch.equal(ids(same)[0], ids(result)[0])
    assert not torch.equal(ids(same)[1], ids(result)[1])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"classes": ["Fox", 1], "prompts": ["a fox"]}, "and styles must be as many"),
        ({"classes": []}, r"classes=\[\]"),
        ({"prompts": []}, r"prompts=\[\]"),
        ({"classes": "Fox"}, "classes='Fox' .* a list"),
        ({"prompts": "a red fox"}, "prompts='a red fox' .* a list"),
        ({"classes": [0], "count": 0}, "count=0"),
        ({"classes": [0, 1], "seed": [1]}, r"seed=\[1\] .* 2 of them"),
        ({"classes": [0], "count": 2, "seed": (1, 2, 3)}, r"seed=\[1, 2, 3\] .* 2 of them"),
        ({"classes": [0], "guidance": "2"}, "guidance='2'"),
        ({"classes": [0], "temperature": -1.0}, "temperature=-1.0"),
        ({"classes": [0], "top_p": 0.0}, "top_p=0.0"),
        ({"classes": [0], "top_k": -1}, "top_k=-1"),
        ({"classes": [0], "size": 32}, "size=32 .* height and width"),
        ({"classes": [0], "size": (32, 36)}, "size='32x36' .* multiples of 8"),
        ({"classes": [0], "size": (0, 32)}, "size='0x32'"),
        ({"classes": [0], "guidence": 2.0}, "unknown setting 'guidence': did you mean 'guidance'"),
    ],
)
def test_what_cannot_be_asked_for(pipeline: Pipeline, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline(**asked)
    with pytest.raises(ConfigError, match=message):
        next(pipeline.stream(**asked))


def test_classes_and_prompts_go_to_generators_that_read_them(
    pipeline: Pipeline, captioned: Pipeline
) -> None:
    for classes in (None, [1]):
        with pytest.raises(ConfigError, match="prompts are not accepted"):
            pipeline(classes, prompts=["a fox"])
    for prompts in (None, ["a fox"]):
        with pytest.raises(ConfigError, match="classes are not accepted"):
            captioned([1], prompts)


# seeds and settings


def test_picture_i_is_drawn_from_seed_plus_i(pipeline: Pipeline) -> None:
    result = pipeline(classes=["Fox", 2], count=3, seed=10)
    assert [each["seed"] for each in result.settings] == list(range(10, 16))
    assert [each["class"] for each in result.settings] == ["Fox", "Tulip"] * 3
    assert len(ids(result).unique(dim=0)) == 6
    alone = pipeline(classes=["Tulip"], seed=13)
    assert torch.equal(ids(alone)[0], ids(result)[3])


def test_every_picture_may_have_its_own_seed(pipeline: Pipeline) -> None:
    given = pipeline(classes=[0, 0, 0], seed=[9, 4, 9])
    assert [each["seed"] for each in given.settings] == [9, 4, 9]
    assert torch.equal(ids(given)[0], ids(given)[2])
    assert torch.equal(ids(given)[1], ids(pipeline(classes=[0], seed=4))[0])
    assert not torch.equal(ids(given)[0], ids(given)[1])


def test_the_same_call_twice_is_bit_exact(pipeline: Pipeline) -> None:
    first, second = (pipeline(classes=[1, 2], guidance=3.0, seed=2) for _ in range(2))
    assert torch.equal(first.pictures, second.pictures)


def test_settings_are_plain_and_draw_the_picture_again(pipeline: Pipeline) -> None:
    settings = {"guidance": 2.5, "temperature": 0.9, "top_k": 12, "top_p": 0.95, "min_p": 0.01}
    result = pipeline(classes=["oak", 2], seed=3, size=(16, 32), **settings)
    for index in range(2):
        record = json.loads(json.dumps(result.settings[index]))
        assert record | settings == record
        classes, prompt = [record.pop("class")], record.pop("prompt")
        assert prompt is None
        again = pipeline(classes=classes, **record)
        assert torch.equal(ids(again)[0], ids(result)[index])
        assert again.settings[0] == result.settings[index]


def test_settings_reach_the_draw(pipeline: Pipeline) -> None:
    greedy = ids(pipeline(classes=[1, 2], temperature=0.0, seed=0))
    assert torch.equal(greedy, ids(pipeline(classes=[1, 2], top_k=1, seed=5)))
    assert torch.equal(greedy, ids(pipeline(classes=[1, 2], top_p=1e-6, seed=6)))
    assert torch.equal(greedy, ids(pipeline(classes=[1, 2], min_p=0.999999, seed=7)))
    plain = ids(pipeline(classes=[1, 2]))
    assert not torch.equal(plain, greedy)
    assert not torch.equal(plain, ids(pipeline(classes=[1, 2], guidance=4.0)))

    def only_five(logits: Tensor, row: object, tokens: Tensor) -> Tensor:
        return logits.masked_fill(torch.arange(CODES) != 5, -torch.inf)

    assert (ids(pipeline(classes=[1], processors=(only_five,))) == 5).all()


def test_guidance_is_a_number_or_a_schedule(pipeline: Pipeline) -> None:
    number = ids(pipeline(classes=[1, 2], guidance=3.0))
    assert torch.equal(number, ids(pipeline(classes=[1, 2], guidance=Constant(3.0))))
    early = pipeline(classes=[1, 2], guidance=Interval(3.0, 0, 3))
    assert torch.equal(ids(early)[:, :4], number[:, :4])
    assert not torch.equal(ids(early), number)
    assert json.dumps(early.settings)


def test_other_sizes(pipeline: Pipeline) -> None:
    wide = pipeline(classes=[1], size=(16, 48))
    assert wide.pictures.shape == (1, 3, 16, 48)
    assert wide.settings[0]["size"] == [16, 48]
    assert pipeline(classes=[1]).pictures.shape == (1, 3, SIZE, SIZE)


# watching


def test_a_stream_shows_every_step_and_ends_in_the_picture(pipeline: Pipeline) -> None:
    settings = {"classes": ["Fox", "Oak"], "guidance": 2.0, "seed": 3}
    result = pipeline(**settings)
    previews = list(pipeline.stream(**settings))
    assert [preview.step for preview in previews] == list(range(1, TOKENS + 1))
    assert {preview.total for preview in previews} == {TOKENS}
    assert torch.equal(previews[-1].pictures, result.pictures)
    for step, preview in enumerate(previews, start=1):
        shown = preview.pictures.unflatten(-1, (4, 8)).unflatten(-3, (4, 8))
        drawn = shown.abs().amax((1, 3, 5)).flatten(1) > 0
        assert drawn[:, :step].all()
        assert not drawn[:, step:].any()


def test_a_stream_can_be_left(pipeline: Pipeline) -> None:
    stream = pipeline.stream(classes=[0])
    assert next(stream).step == 1
    stream.close()
    assert list(stream) == []


def test_hooks_and_the_callback_see_every_step(pipeline: Pipeline) -> None:
    seen: list[tuple[Pipeline, int, int]] = []
    hooked: list[int] = []

    def callback(owner: Pipeline, step: int, events: list[Event]) -> None:
        assert all(event.row.tokens.known.sum() == step + 1 for event in events)
        assert all(event.finished == (step == TOKENS - 1) for event in events)
        seen.append((owner, step, len(events)))

    pipeline(
        classes=[0, 1],
        guidance=2.0,
        hooks=[lambda events: hooked.append(events[0].step.index)],
        callback_on_step_end=callback,
    )
    assert seen == [(pipeline, step, 2) for step in range(TOKENS)]
    assert hooked == list(range(TOKENS))


@pytest.mark.parametrize("last", [0, 6, TOKENS - 1])
def test_cancelling_keeps_what_is_drawn(pipeline: Pipeline, last: int) -> None:
    steps: list[int] = []

    def stop(_: Pipeline, step: int, events: list[Event]) -> None:
        steps.append(step)
        if step == last:
            raise Cancelled

    whole = pipeline(classes=[0, 1], seed=1)
    part = pipeline(classes=[0, 1], seed=1, callback_on_step_end=stop)
    assert steps == list(range(last + 1))
    assert part.tokens.known.sum(1).tolist() == [last + 1] * 2
    assert torch.equal(ids(part)[:, : last + 1], ids(whole)[:, : last + 1])
    previews = list(pipeline.stream(classes=[0, 1], seed=1))
    assert torch.equal(part.pictures, previews[last].pictures)


def test_other_errors_of_a_hook_come_through(pipeline: Pipeline) -> None:
    def broken(events: Sequence[Event]) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        pipeline(classes=[0], hooks=[broken])


# editing


@pytest.fixture
def corner() -> Tensor:
    """A mask that touches the tokens 5, 6, 9 and 10 of 4 x 4, some only by a pixel."""
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[8:17, 9:17] = True
    return mask


def test_an_edit_holds_what_the_mask_leaves(
    pipeline: Pipeline, pictures: Tensor, corner: Tensor
) -> None:
    given = pipeline.tokenizer.encode(pictures[:1]).ids[0, :, 0]
    redrawn = torch.zeros(TOKENS, dtype=torch.bool)
    redrawn[[5, 6, 9, 10]] = True
    result = pipeline.edit(pictures[0], corner, classes=["Fox"] * 4, seed=1, guidance=2.0)
    assert result.pictures.shape == (4, 3, SIZE, SIZE)
    assert torch.equal(ids(result)[:, ~redrawn], given[~redrawn].expand(4, -1))
    assert len(ids(result)[:, redrawn].unique(dim=0)) == 4
    assert (ids(result)[:, redrawn] != given[redrawn]).any(0).all()
    again = pipeline.edit(pictures[0], corner, classes=["Fox"] * 4, seed=1, guidance=2.0)
    assert torch.equal(again.pictures, result.pictures)
    assert result.tokens.known.all()
    assert [each["seed"] for each in result.settings] == [1, 2, 3, 4]


def test_an_edit_reads_what_it_holds(pipeline: Pipeline, pictures: Tensor) -> None:
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[24:] = True
    edits = [ids(pipeline.edit(picture, mask, classes=[0], seed=3)) for picture in pictures[:4]]
    assert len(torch.cat(edits)[:, :12].unique(dim=0)) == 4
    assert len(torch.cat(edits)[:, 12:].unique(dim=0)) > 1


def test_an_edit_takes_images(pipeline: Pipeline, pictures: Tensor, corner: Tensor) -> None:
    picture = Image.fromarray(((pictures[2] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    mask = Image.fromarray((corner * 255).byte().numpy())
    found = pipeline.edit(picture, mask, classes=[1], seed=2)
    assert torch.equal(ids(found), ids(pipeline.edit(pictures[2], corner, classes=[1], seed=2)))
    tall = Image.new("RGB", (16, 48), "red")
    half = Image.new("1", (16, 48))
    half.paste(1, (0, 0, 16, 24))
    assert pipeline.edit(tall, half).pictures.shape == (1, 3, 48, 16)


def test_an_edit_can_be_cancelled(pipeline: Pipeline, pictures: Tensor, corner: Tensor) -> None:
    def stop(events: list[Event]) -> None:
        if events[0].step.index == 5:
            raise Cancelled

    result = pipeline.edit(pictures[0], corner, classes=[0], hooks=[stop])
    unknown = (~result.tokens.known[0]).nonzero().flatten().tolist()
    assert unknown == [6, 9, 10]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(16, 32), "mask='16x32' .* 32x32"),
        (torch.ones(1, 32, 32), "mask='1x32x32' .* 32x32"),
        (torch.zeros(32, 32), "mask is empty"),
        (torch.ones(32, 32), "mask is full"),
        (Image.new("L", (32, 16), 255), "mask='16x32' .* 32x32"),
        (Image.new("L", (32, 32)), "mask is empty"),
    ],
)
def test_masks_that_cannot_be_used(
    pipeline: Pipeline, pictures: Tensor, mask: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline.edit(pictures[0], mask, classes=[0])


def test_a_picture_whose_size_has_no_tokens_cannot_be_edited(pipeline: Pipeline) -> None:
    mask = torch.zeros(20, 32)
    mask[0] = 1
    with pytest.raises(ConfigError, match=r"size='20x32' .* multiples of 8"):
        pipeline.edit(torch.zeros(3, 20, 32), mask, classes=[0])


# compiling


needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler"
)


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "eager", "fullgraph": True},  # raises where a block falls into pieces
        pytest.param({}, marks=(pytest.mark.slow, needs_compiler)),
    ],
)
def test_a_compiled_pipeline_draws_the_same_ids(
    tokenizer: PatchKMeans, options: dict[str, Any]
) -> None:
    made = Pipeline(tokenizer, generator(), CLASSES, (SIZE, SIZE))
    settings = {"classes": [1, 2], "guidance": 2.0, "size": (16, 32)}
    eager = ids(made(**settings))
    assert made.compile(**options) is made
    assert torch.equal(ids(made(**settings)), eager)


def test_parts_with_other_codes_are_refused(tokenizer: PatchKMeans) -> None:
    other = LlamaGen(LlamaGenConfig(width=16, depth=1, heads=2, codebook_size=CODES + 1))
    with pytest.raises(ConfigError, match=f"codebook_size={CODES + 1} .* has {CODES} codes"):
        Pipeline(tokenizer, other)
