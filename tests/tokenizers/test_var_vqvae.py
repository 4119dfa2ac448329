"""VAR's tokenizer: its pyramid, its losses, its training, and which convolution a scale has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError
from limner.core.registry import TOKENIZERS
from limner.core.tokens import Tokens
from limner.data import load_packaged
from limner.hub.build import parameter_count, weightless
from limner.hub.official import var as official
from limner.metrics.pixels import psnr
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig, phi_index
from limner.tokenizers.quantizers.upkeep import Upkeep
from limner.tokenizers.var_vqvae import VARVQVAE, VARVQVAEConfig
from limner.training import load_recipe, train

HYPER: dict[str, Any] = {
    "vocab_size": 12, "z_channels": 6, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1,
    "patch_nums": [1, 2, 4], "quant_resi": 0.5, "share_quant_resi": 4,
}  # fmt: skip


def small(**changes: Any) -> VARVQVAE:
    torch.manual_seed(0)
    config = official.tokenizer_config({**HYPER, **changes})
    model = VARVQVAE(config).eval()
    torch.nn.init.normal_(model.quantizer.codebook.weight)
    return model


def pictures(count: int = 2) -> Tensor:
    return load_packaged(size=8).to_float(slice(0, 40 * count, 40))


def prefix(tokens: Tokens, scales: int) -> Tokens:
    end = tokens.layout.span(scales - 1).stop
    return replace(tokens, known=torch.arange(len(tokens.layout)).expand_as(tokens.known) < end)


@torch.no_grad()
def test_prefixes_of_scales_are_what_they_add_up_to() -> None:
    model = small()
    seen = pictures()
    tokens = model.encode(seen)
    assert tokens.ids is not None
    rest = model.encode_latents(seen)
    total = torch.zeros_like(rest)
    for scale, segment in enumerate(tokens.layout.segments):
        size = segment.size[1:]
        pooled = functional.interpolate(rest, size, mode="area").permute(0, 2, 3, 1)
        ids = torch.cdist(pooled.flatten(1, 2), model.quantizer.codebook.weight[None]).argmin(-1)
        assert torch.equal(ids, tokens.ids[:, tokens.layout.span(scale), 0])
        map_ = model.quantizer.codebook.weight[ids].transpose(1, 2).unflatten(2, size)
        if size != (4, 4):
            map_ = functional.interpolate(map_, (4, 4), mode="bicubic")
        convolution = model.quantizer.phi[phi_index(scale, 3, 4)]
        added = 0.5 * map_ + 0.5 * functional.conv2d(
            map_, convolution.weight, convolution.bias, padding=1
        )
        total, rest = total + added, rest - added
        shown = model.preview(prefix(tokens, scale + 1))
        torch.testing.assert_close(shown, model.decode_latents(total).clamp(-1, 1))


def test_reconstruction_trains_everything_with_the_published_loss() -> None:
    model = small()
    seen = pictures()
    made = model.reconstruct(seen)
    layout = model.layout(8, 8)
    tokens = model.encode(seen)
    assert made.vectors is not None and made.ids is not None and tokens.ids is not None
    assert torch.equal(made.ids, tokens.ids[..., 0])
    assert made.vectors.shape == (2, len(layout), 6) and not made.vectors.requires_grad
    assert torch.equal(model.quantizer.nearest(made.vectors), made.ids)

    latents = model.encode_latents(seen)
    canvases = [model.quantizer.decode(prefix(tokens, k)) for k in (1, 2, 3)]
    each = [
        0.25 * functional.mse_loss(c.detach(), latents) + functional.mse_loss(c, latents.detach())
        for c in canvases
    ]
    torch.testing.assert_close(made.loss, torch.stack(each).mean())
    wanted = torch.autograd.grad(torch.stack(each).mean(), model.quantizer.codebook.weight)
    found = torch.autograd.grad(made.loss, model.quantizer.codebook.weight, retain_graph=True)
    torch.testing.assert_close(found[0], wanted[0])
    (made.loss + made.pictures.square().mean()).backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None]
    # of four shared convolutions, three scales use three
    assert {name.rsplit(".", 1)[0] for name in idle} == {"quantizer.phi.1"}
    assert model.last_layer.grad is not None


def test_codes_out_of_use_are_moved() -> None:
    model = small()
    codes = model.quantizer.codebook.weight.detach()
    codes[3:] = 50.0
    keeper = Upkeep(model.quantizer)  # type: ignore[arg-type]
    keeper.started.fill_(True)
    made = model.reconstruct(pictures(8))
    assert made.vectors is not None and made.ids is not None and made.ids.max() < 3
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        keeper.update(model.quantizer, made.vectors, made.ids, rng)  # type: ignore[arg-type]
    assert model.encode(pictures(8)).ids.max() >= 3  # type: ignore[union-attr]


@pytest.mark.parametrize(("shared", "names"), [(0, 3), (1, 1), (4, 4)])
def test_shared_convolutions(shared: int, names: int) -> None:
    model = small(share_quant_resi=shared)
    assert len(model.quantizer.phi) == names
    table = official.tokenizer_table(model.config)
    state = table.to_official(model.state_dict())
    marks = {0: "quantize.quant_resi.2.weight", 1: "quantize.quant_resi.qresi.weight"}
    assert marks.get(shared, "quantize.quant_resi.qresi_ls.3.weight") in state
    given = {"scales": [1, 2, 4]}
    inferred = official.TOKENIZER.config(state, given)
    assert inferred.quantizer.phi_count == shared
    back = official.TOKENIZER.build(inferred, state)
    seen = pictures()
    assert torch.equal(back.encode(seen).ids, model.encode(seen).ids)
    if shared == 0:
        used = [phi_index(scale, 3, 3) for scale in range(3)]
        assert used == [0, 1, 2]
        with pytest.raises(ConfigError, match="give scales"):
            official.TOKENIZER.config(state)


def test_codes_may_be_chosen_by_direction() -> None:
    model = small(using_znorm=True)
    assert model.config.quantizer == MultiScaleConfig(12, 6, normalize=True)
    codebook = model.quantizer.codebook.weight
    vectors = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
    wanted = functional.cosine_similarity(vectors[:, :, None], codebook, dim=-1).argmax(-1)
    assert torch.equal(model.quantizer.nearest(vectors), wanted)
    assert not torch.equal(small().quantizer.nearest(vectors), wanted)
    # but they keep their lengths
    tokens = model.encode(pictures())
    assert tokens.ids is not None
    added = model.quantizer.add(None, tokens, 2)
    map_ = codebook[tokens.ids[:, 5:, 0]].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(added, model.quantizer.phi[3](map_))


def test_published_parameter_count() -> None:
    variant = TOKENIZERS.get_variant("var-vqvae")
    with weightless():
        model = TOKENIZERS.create("var-vqvae")
    assert parameter_count(model) == variant.published == 108_948_355
    assert parameter_count(model.encoder) == 44_107_872
    assert parameter_count(model.decoder) == 64_653_923
    assert parameter_count(model.quantizer) == 168_064
    assert model.config == VARVQVAEConfig()


def test_the_tiny_recipe_trains(tmp_path: Any) -> None:
    config = {"convolution.channels": 32, "convolution.multipliers": [1, 2], "scales": [1, 2, 4, 8]}
    changes = {f"tokenizer.config.{name}": value for name, value in config.items()}
    changes |= {"data.size": 16, "data.views": {"kind": "centre"}, "budget.steps": 8}
    changes |= {"data.classes": ["Activities"], "budget.batch": 8, "device": "cpu"}
    changes |= {
        "tokenizer.config.quantizer.codebook_size": 64,
        "evaluations": 1,
        "perceptual": None,
    }
    recipe = load_recipe("var/vqvae-tiny", {**changes, "output": str(tmp_path / "run")})
    run = train(recipe)
    made, held_out = run.part, run.metrics["held_out"]
    assert isinstance(made, VARVQVAE)
    assert {f"usage_scale_{k}" for k in (1, 2, 3, 4)} <= held_out.keys()
    assert held_out["psnr"] > 9
    seen = load_packaged(size=16).to_float(slice(0, 1600, 100))
    with torch.no_grad():
        latents, tokens = made.encode_latents(seen), made.encode(seen)
        apart = [
            float((latents - made.quantizer.decode(prefix(tokens, k))).square().mean())
            for k in (1, 2, 3, 4)
        ]
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 0.75 * apart[0]


@pytest.mark.slow
def test_scales_that_were_trained_add_up_in_their_order(tmp_path: Any) -> None:
    changes = {"budget.steps": 400, "objective.adversarial": 0.0, "perceptual": None}
    changes |= {"device": "cpu", "evaluations": 1}
    run = train(load_recipe("var/vqvae-tiny", {**changes, "output": str(tmp_path / "run")}))
    made, seen = run.part, load_packaged(size=32).split(0.1)[1].to_float()
    assert isinstance(made, VARVQVAE)
    with torch.no_grad():
        latents, tokens = made.encode_latents(seen), made.encode(seen)
        prefixes = [prefix(tokens, scales) for scales in range(1, 7)]
        apart = [float((latents - made.quantizer.decode(p)).square().mean()) for p in prefixes]
        shown = [float(psnr(made.decode(p), seen).mean()) for p in prefixes]
        assert tokens.ids is not None
        order = torch.randperm(130, generator=torch.Generator().manual_seed(0))
        mixed = float(psnr(made.decode(replace(tokens, ids=tokens.ids[:, order])), seen).mean())
    assert apart == sorted(apart, reverse=True) and apart[-1] < 0.5 * apart[0]
    assert shown == sorted(shown)
    assert mixed < shown[0]
