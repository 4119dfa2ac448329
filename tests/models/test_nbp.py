"""NBP's mechanism: blocks, prompts, memory, given frames, vocabulary, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError
from limner.core.layout import grid
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS
from limner.core.request import Request
from limner.core.row import Options, Row
from limner.core.tokens import Tokens, empty, from_ids
from limner.decoding import generate
from limner.heads.guidance import Constant
from limner.hub.build import blank, parameter_count
from limner.hub.convert import detect
from limner.hub.official import nbp as official
from limner.layers.vision_transformer import StackConfig
from limner.models.nbp import NBP, NBPConfig
from tests.models.together import drawn_together_and_alone

LAYOUT = grid(2, 4, 2)  # 16 tokens
GIVEN = NBPConfig(StackConfig(16, 2, 2), codebook_size=9, block=4, places=30)
ASKED = replace(GIVEN, hybrid=True, prompt=3, prompt_vocabulary=6)


def build(config: NBPConfig) -> NBP:
    """A float64 model whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    model = NBP(config).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def clip(seed: int = 0) -> Tensor:
    return torch.randint(9, (1, 16), generator=torch.Generator().manual_seed(seed))


def ask(model: NBP, number: int = 2) -> dict[str, Tensor]:
    labels = [number] if model.config.prompt else None
    return model.condition.ask(Request(1, labels=labels))


def begin(
    model: NBP, seed: int = 0, options: Options | None = None, known: int | None = None
) -> list[Row]:
    tokens = empty(LAYOUT, codes=1)
    known = (0 if model.config.hybrid else 4) if known is None else known
    assert tokens.ids is not None
    tokens.ids[:, :known, 0], tokens.known[:, :known] = clip(seed)[:, :known], True
    return model.begin(tokens, ask(model), options or Options(), SeededNoise(seed))


def drawn(rows: list[Row]) -> Tensor:
    return torch.cat([row.tokens.ids for row in rows if row.lead is None])[..., 0]  # type: ignore[misc]


@pytest.mark.parametrize("config", [GIVEN, ASKED], ids=["given", "asked"])
def test_codes_are_told_by_their_block_and_what_is_before(config: NBPConfig) -> None:
    model = build(config)
    offset = 0 if config.hybrid else 4
    ids, other = clip(), clip()
    other[:, 6] = (other[:, 6] + 1) % 9
    before, after = (model.teach(from_ids(LAYOUT, one), ask(model)) for one in (ids, other))
    changed = (before != after).any(-1)[0]
    first = 8 - offset  # the whole block after it
    assert not bool(changed[:first].any()) and bool(changed[first:].all())


@pytest.mark.parametrize("config", [GIVEN, ASKED], ids=["given", "asked"])
def test_drawing_with_memory_gives_the_logits_of_one_pass(config: NBPConfig) -> None:
    model = build(config)
    seen: list[Tensor] = []
    hook = model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    rows = begin(model, 1, Options(Constant(2.0)) if config.prompt else None)
    generate(model, rows)
    hook.remove()
    assert len(seen) == (16 // 4 + 4 - 1 if config.hybrid else 3)
    known = from_ids(LAYOUT, drawn(rows))
    conditions = [row.condition for row in rows]
    whole = torch.cat([model.teach(known, one) for one in conditions])
    torch.testing.assert_close(torch.cat(seen, dim=1), whole, rtol=1e-9, atol=1e-9)


def test_given_frames_are_read_in_one_pass() -> None:
    for model, known, passes in ((build(GIVEN), 8, 2), (build(ASKED), 8, 2), (build(ASKED), 2, 5)):
        rows = begin(model, 3, Options(temperature=0.0), known)
        calls: list[int] = []
        hook = model.register_forward_hook(lambda m, i, o, calls=calls: calls.append(o.shape[1]))
        generate(model, rows)
        hook.remove()
        assert len(calls) == passes
        assert torch.equal(drawn(rows)[:, :known], clip(3)[:, :known])
        told = model.teach(from_ids(LAYOUT, drawn(rows)), ask(model))
        codes = told[..., model.config.first_code :].argmax(-1)
        start = known if model.config.hybrid else known - 4
        assert torch.equal(codes[:, start:], drawn(rows)[:, known:])


def test_rows_at_different_steps_draw_what_they_draw_alone() -> None:
    model = build(ASKED)
    options = (Options(), Options(Constant(2.0)), Options(top_k=3))
    pair = drawn_together_and_alone(
        model, lambda seed, option: begin(model, seed, option), drawn, options
    )
    assert torch.equal(*pair)


def test_blocks_of_one_token_are_a_plain_causal_model() -> None:
    model = build(replace(GIVEN, block=1))
    ids, other = clip(), clip()
    other[:, 6] = (other[:, 6] + 1) % 9
    before, after = (model.teach(from_ids(LAYOUT, one), ask(model)) for one in (ids, other))
    changed = (before != after).any(-1)[0]
    assert changed.tolist() == [False] * 6 + [True] * 9


def test_blocks_of_one_token_tell_what_a_plain_causal_model_tells() -> None:
    """The same weights behind a causal mask, without slots."""
    model, ids = build(replace(GIVEN, block=1)), clip()
    x = model.tokens(ids[:, :-1]) + model.places[:, :15]
    for block in model.blocks:
        attention = block.attention
        query, key, value = (
            part.unflatten(-1, (attention.heads, -1)).transpose(1, 2)  # type: ignore[operator]
            for part in attention.qkv(block.attention_norm(x)).chunk(3, dim=-1)  # type: ignore[operator]
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + attention.out(mixed.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.mlp_norm(x))
    told = model.teach(from_ids(LAYOUT, ids), ask(model))
    torch.testing.assert_close(told, model.output(model.norm(x)), rtol=1e-9, atol=1e-9)


def test_nothing_but_codes_is_drawn_unless_it_may() -> None:
    ids = []
    for restricted in (True, False):
        model = build(replace(ASKED, restricted=restricted))
        model.output.weight[: model.config.first_code] *= 8  # prompts and special tokens likely
        rows = [row for seed in range(6) for row in begin(model, seed)]
        generate(model, rows)
        ids.append(drawn(rows))
    assert int(ids[0].min()) >= 0 and int(ids[0].max()) < 9
    assert int(ids[1].min()) < 0


def test_prompts_left_out_are_vectors_of_their_own() -> None:
    model = build(ASKED)
    tokens = from_ids(LAYOUT, clip())
    null = model.null(ask(model))
    without = model.teach(tokens, null)
    assert not torch.allclose(without, model.teach(tokens, ask(model)))
    model.null_prompt[:, 0] += 1
    assert not torch.allclose(without, model.teach(tokens, null))
    assert model.condition.ask(Request(2))["prompt"].tolist() == [[-1] * 3] * 2
    dropped = model.condition.drop(ask(model), 0.999, torch.Generator().manual_seed(0))
    assert dropped["prompt"].tolist() == [[-1] * 3]


@pytest.mark.parametrize("kind", ["k600", "ucf"])
@pytest.mark.parametrize("size", ["base", "xl", "3b"])
def test_variants_have_the_published_counts(kind: str, size: str) -> None:
    entry = MODELS.get_variant(f"nbp-{kind}-{size}")
    network = blank(MODELS.get_family(entry.family), entry.config)
    number, unit = float(entry.published[:-1]), {"M": 1e6, "B": 1e9}[entry.published[-1]]
    digits = len(entry.published.split(".")[1]) - 1
    assert round(parameter_count(network) / unit, digits) == number
    blocks = {"base": "680.0", "xl": "1.21", "3b": "3.63"}[size]
    count = parameter_count(network.blocks) / (1e6 if size == "base" else 1e9)
    assert f"{count:.{len(blocks.split('.')[1])}f}" == blocks


@pytest.mark.parametrize("config", [GIVEN, ASKED], ids=["given", "asked"])
def test_official_weights_are_recognised(config: NBPConfig) -> None:
    model = NBP(config)
    bare = official.TABLE.to_official(model.state_dict())
    state = {f"transformer.{name}": tensor for name, tensor in bare.items()}
    state["transformer.blocks.0.attn.mask"] = torch.zeros(2, 2)
    state["first_stage_model.something"] = torch.zeros(2)
    assert detect(state) is official.NBP
    told = {"stack.heads": 2, "block": 4, "prompt_vocabulary": config.prompt_vocabulary}
    assert official.NBP.config(state, told) == config
    again = official.NBP.build(config, state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_wrong_input_is_named() -> None:
    with pytest.raises(ConfigError, match=r"given='0 codes' .*first block"):
        begin(build(GIVEN), known=0)
    with pytest.raises(ConfigError, match=r"block=5 .*divisor of the 16 tokens"):
        begin(build(replace(GIVEN, block=5)))
    with pytest.raises(ConfigError, match="size='19 places'"):
        begin(build(replace(ASKED, places=18)))
    with pytest.raises(ConfigError, match="codes"):
        values = Tokens(LAYOUT, None, torch.zeros(1, 16, 2), torch.ones(1, 16, dtype=torch.bool))
        build(GIVEN).begin(values, {}, Options(), SeededNoise(0))
    for wrong in ({"block": 0}, {"prompt": 2}, {"prompt_vocabulary": 3}, {"dropout": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            replace(GIVEN, **wrong)
    for model, request in (
        (build(ASKED), Request(1, prompts=["a cat"])),
        (build(ASKED), Request(1, labels=[6])),
        (build(GIVEN), Request(1, labels=[0])),
    ):
        with pytest.raises(ConfigError):
            model.condition.ask(request)


@pytest.mark.slow
def test_blocks_learn_moving_rows_about_as_well_as_single_tokens() -> None:
    """A row of codes moves by one column from row to row, and a code in ten is another."""
    rng = torch.Generator().manual_seed(0)

    def some(count: int) -> Tokens:
        first = torch.randint(4, (count, 1, 4), generator=rng)
        rows = torch.cat([first.roll(shift, -1) for shift in range(4)], dim=1)
        noise = torch.rand(rows.shape, generator=rng) < 0.1
        other = torch.randint(4, rows.shape, generator=rng)
        return from_ids(LAYOUT, torch.where(noise, other, rows).flatten(1))

    losses = {}
    held_out, nothing = some(256), {"prompt": torch.zeros(256, 0, dtype=torch.int64)}
    for block in (1, 4):
        torch.manual_seed(0)
        config = replace(
            GIVEN, stack=StackConfig(48, 2, 4), codebook_size=4, block=block, dropout=0.0
        )
        model = NBP(config)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        for _ in range(250):
            loss = model.loss(some(64), {"prompt": torch.zeros(64, 0, dtype=torch.int64)}).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            told = model.eval().teach(held_out, nothing)[:, -12:]  # of the rows behind the first
        assert held_out.ids is not None
        losses[block] = float(
            torch.nn.functional.cross_entropy(told.flatten(0, 1), held_out.ids[:, 4:].flatten())
        )
    assert losses[4] < 1.15 * losses[1] and losses[4] < 0.9
