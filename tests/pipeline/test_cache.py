"""Budgets, drafters and pipelines that draw within a budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from limner.core.errors import CheckpointError, ConfigError
from limner.core.layout import pyramid
from limner.core.seeds import seeded
from limner.hub.shipped import FIRST
from limner.layers import scale_memory
from limner.layers.scale_memory import CacheBudget
from limner.models.infinity import Infinity, InfinityConfig
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.models.m_var import MVAR, MVARConfig
from limner.models.var import VAR, VARConfig
from limner.pipeline import Pipeline
from limner.pipeline.cache import (
    drafter_budget,
    drafter_pairs,
    even_budget,
    read_budget,
    selectivity,
    standardised,
    write_budget,
)
from limner.pipeline.cache_study import measure_selectivity, plan_budget, study_cache
from limner.tokenizers.patch_bits import PatchBits, PatchBitsConfig
from limner.tokenizers.patches import (
    PatchKMeans,
    PatchKMeansConfig,
    PatchMultiScale,
    PatchMultiScaleConfig,
)
from limner.verify import verify

SIZES = (1, 2, 3, 4, 6, 8)
LAYOUT = pyramid(tuple((side, side) for side in SIZES))
LENGTHS = [1, 5, 14, 30, 66]


def fitted(tokenizer):
    pictures = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokenizer.fit(pictures, seeded(0, "fit"))
    return tokenizer


def loud(model):
    """Give a fresh model weights that make a difference."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
    return model


@pytest.fixture(scope="module")
def pipelines():
    torch.manual_seed(0)
    codes = fitted(PatchMultiScale(PatchMultiScaleConfig(codebook_size=32)))
    bits = fitted(PatchBits(PatchBitsConfig(width=6)))
    sizes = {"width": 32, "depth": 3, "heads": 2}
    var = VARConfig(**sizes, codebook_size=32, latent=16, classes=3, scales=SIZES, gate_gain=1.0)
    infinity = InfinityConfig(
        **sizes, bits=6, condition="caption", text_length=4, text_width=16, levels=6, gate_gain=1.0
    )
    return {
        "var": Pipeline(codes, loud(VAR(var)), "abc", (32, 32)),
        "infinity": Pipeline(bits, loud(Infinity(infinity)), size=(32, 32)),
    }


def asked(name):
    how = {"seed": 3, "guidance": 2.0}
    return {"classes": [1, 2], **how} if name == "var" else {"prompts": ["a fox", "a cat"], **how}


@pytest.mark.parametrize("name", ["var", "infinity"])
def test_one_argument_bounds_what_is_held(pipelines, name):
    pipeline = pipelines[name]
    study = study_cache(pipeline, 0.25, **asked(name))
    entry = 2 * 32 * 4  # keys and values of a layer, float32
    rows, layers = 4, 3  # two pictures and their null rows
    assert study.use.whole == rows * layers * 66 * entry
    assert study.use.bytes == rows * layers * round(0.25 * 66) * entry
    assert study.changed.max() > 0 and study.psnr.isfinite().any()
    assert study.within.settings[0]["cache"] == 0.25 and "cache" not in study.whole.settings[0]
    assert study.whole.cache is None


@pytest.mark.parametrize("name", ["var", "infinity"])
def test_all_of_the_cache_is_no_budget(pipelines, name):
    study = study_cache(pipelines[name], 1.0, **asked(name))
    assert study.use.share == 1.0 and not study.changed.any()
    assert torch.equal(study.within.pictures, study.whole.pictures)


def test_bounded_pictures_do_not_depend_on_their_neighbours(pipelines):
    pipeline = pipelines["infinity"]
    both = pipeline(prompts=["a fox", "a cat"], seed=[5, 6], guidance=2.0, cache=0.25)
    one = pipeline(prompts=["a cat"], seed=[6], guidance=2.0, cache=0.25)
    assert torch.equal(both.tokens.ids[1:], one.tokens.ids)


def test_previews_are_drawn_within_the_budget(pipelines):
    pipeline = pipelines["infinity"]
    whole = pipeline(prompts=["a fox"], cache=0.25)
    *_, last = pipeline.stream(prompts=["a fox"], cache=0.25)
    assert torch.equal(last.pictures, whole.pictures)


def test_budgets_below_the_minimum_are_refused_before_work_starts(pipelines):
    hooks = [lambda events: pytest.fail("drawing has begun")]
    for cache, message in (
        (0.01, "a share from 0.061 to 1 of 66 entries"),
        (1.5, "a share from"),
        (CacheBudget(((20, 20),), 20), "2 layers"),
        ("nowhere.json", "nowhere.json"),
    ):
        with pytest.raises((ConfigError, CheckpointError), match=message):
            pipelines["var"](classes=[1], cache=cache, hooks=hooks)


def test_models_without_scales_or_keys_are_refused():
    raster = fitted(PatchKMeans(PatchKMeansConfig(codebook_size=16)))
    llama = LlamaGen(LlamaGenConfig(width=16, depth=1, heads=2, codebook_size=16, classes=2))
    with pytest.raises(ConfigError, match="single scale"):
        Pipeline(raster, llama, "ab", (32, 32))(classes=[1], cache=0.5)
    codes = fitted(PatchMultiScale(PatchMultiScaleConfig(codebook_size=32)))
    config = MVARConfig(
        32, 2, 2, codebook_size=32, latent=16, classes=2, scales=SIZES, mixer_head_width=16
    )
    with pytest.raises(ConfigError, match="no keys and values"):
        Pipeline(codes, MVAR(config), "ab", (32, 32))(classes=[1], cache=0.5)


@pytest.mark.parametrize("decay", [0.0, 2.0])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_all_layers_together_hold_the_same_whatever_drafters_get(count, decay):
    layers, share = 7, 0.4
    drafters = torch.zeros(layers, len(SIZES), dtype=torch.bool)
    drafters[:count] = True
    drafters[-1, 4] = count > 0
    budget = drafter_budget(LAYOUT, drafters, share, decay)
    uniform = even_budget(LAYOUT, layers, share).base
    assert budget.base == uniform == round(0.4 * 66)
    for scale, length in enumerate(LENGTHS):
        row = budget.kept[scale]
        assert sum(row) == uniform * layers
        if length > uniform and count:
            own = drafters[:, scale + 1]
            most = min(row[layer] for layer in range(layers) if own[layer])
            assert most >= max(row[layer] for layer in range(layers) if not own[layer])
            assert max(row) <= length + 1


def test_layers_that_look_far_back_are_found():
    rng = torch.Generator().manual_seed(0)
    columns = []
    for history in (0, 20, 45):
        logits = torch.randn(6, 2, 8, history + 8, generator=rng) * 0.1
        # refiners look at the map itself and at one earlier place, drafters at everything
        logits[[0, 2, 3, 5], :, :, history:] += 2.0
        logits[[0, 2, 3, 5], :, :, 0] += 4.0
        columns.append(selectivity(logits.softmax(-1), history, 4))
    index = torch.stack(columns, dim=1)
    assert not index[:, 0].any()
    found = drafter_pairs(standardised(index), 4)
    assert found.nonzero().tolist() == [[1, 1], [1, 2], [4, 1], [4, 2]]
    with pytest.raises(ConfigError, match="drafters"):
        drafter_pairs(index, 13)


def test_a_pipelines_own_attention_makes_a_budget(pipelines, tmp_path):
    pipeline = pipelines["infinity"]
    index = measure_selectivity(pipeline, **asked("infinity"))
    assert index.shape == (3, 6) and not index[:, 0].any() and (index[:, 1:] > 0).all()
    budget = plan_budget(pipeline, 0.4, 5, decay=1.0, **asked("infinity"))
    write_budget(budget, tmp_path / "budget.json")
    assert read_budget(tmp_path / "budget.json") == budget
    result = pipeline(**asked("infinity"), cache=str(tmp_path / "budget.json"))
    assert result.cache is not None and result.cache.share == pytest.approx(26 / 66)


def test_released_tables_are_read(tmp_path):
    table = {}
    for scale, (most, least) in enumerate(((920, 632), (1490, 594), (2510, 526)), start=9):
        blocks = {f"Block {block}": int(block in (0, 23)) for block in range(32)}
        table[f"Scale {scale}"] = {**blocks, "High": 2, "Max": most, "Min": least, "Limit": 999}
    table["Scale 12"], table["Scale 13"] = dict(table["Scale 11"]), dict(table["Scale 11"])
    (tmp_path / "2b.json").write_text(json.dumps(table))
    budget = read_budget(tmp_path / "2b.json")
    assert budget.base == 650 and budget.window == 16
    assert budget.after(6, 0) is None  # rows before the ninth are empty
    assert [budget.after(7, layer) for layer in (0, 1, 23)] == [920, 632, 920]
    assert budget.after(8, 1) == 594 and budget.after(12, 1) == 526
    for row in budget.kept[7:]:
        assert sum(row) == 650 * 32
    (tmp_path / "broken.json").write_text('{"Scale 9": 3}')
    with pytest.raises(CheckpointError, match="no cache budget"):
        read_budget(tmp_path / "broken.json")


def test_the_reference_case_is_reproduced():
    folder = Path(__file__).parents[1] / "fixtures" / "parity" / "scalekv" / "asi"
    report = verify([folder], write=lambda line: None)
    assert report.ok and len(report.cases[0].lines) == 5


def test_selected_entries_leave_the_last_scale_nearer_than_random_or_recent_ones(monkeypatch):
    """On the packaged model, whose tokens are held: only what its memory keeps differs."""
    pipeline = Pipeline.from_pretrained(FIRST)
    asked = {"prompts": ["a red apple", "a cat", "a blue car"], "styles": [0, 1, 2], "seed": 3}
    drawn = pipeline(**asked).tokens.ids
    logits: list[torch.Tensor] = []

    def again(logprob, turn):
        assert turn.tokens.equal(turn.tokens[:1].expand_as(turn.tokens))
        return drawn[:, turn.tokens[0], 0]

    def scores_of(kind):
        rng = torch.Generator().manual_seed(5)

        def scores(queries, keys, scale):
            if kind == "random":
                return torch.rand(keys.shape[:3], generator=rng)
            return torch.arange(float(keys.shape[2])).expand(keys.shape[:3])

        return scores

    def last_logits(**settings):
        logits.clear()
        assert pipeline(**asked, **settings).tokens.ids.equal(drawn)
        return logits[-1]

    monkeypatch.setattr(pipeline.generator.head, "sampler", again)
    with pipeline.generator.register_forward_hook(lambda model, given, out: logits.append(out)):
        whole = last_logits()
        off = {"selected": float((last_logits(cache=0.25) - whole).abs().mean())}
        for kind in ("random", "recent"):
            monkeypatch.setattr(scale_memory, "attention_scores", scores_of(kind))
            off[kind] = float((last_logits(cache=0.25) - whole).abs().mean())
    assert off["selected"] < 0.8 * off["random"] and off["selected"] < 0.8 * off["recent"], off
