"""NFIG: VAR's transformer over bands of frequencies."""

from __future__ import annotations

import torch

from limner.core.generator import Packed
from limner.core.layout import pyramid
from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.row import Options
from limner.core.slots import batch
from limner.core.tokens import empty
from limner.decoding import generate
from limner.heads.guidance import StepRamp
from limner.hub.build import blank, parameter_count
from limner.hub.save import variant_of
from limner.models.nfig import NFIG, NFIGConfig
from limner.orders import teacher_slots
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig, MultiScaleQuantizer

SCALES = (1, 2, 3, 4)
LAYOUT = pyramid(tuple((side, side) for side in SCALES))


def build() -> NFIG:
    """A float64 model whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    config = NFIGConfig(16, 2, 2, codebook_size=11, latent=3, classes=3, scales=SCALES)
    model = NFIG(config).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    canvas = MultiScaleQuantizer(MultiScaleConfig(11, 3, 2, resampling="fourier")).double()
    torch.nn.init.normal_(canvas.codebook.weight)
    model.canvas = canvas.requires_grad_(False)
    return model


def test_the_published_count_is_that_of_its_transformer() -> None:
    entry = MODELS.get_variant("nfig-d16")
    network = blank(MODELS.get_family(entry.family), entry.config)
    assert (entry.published, round(parameter_count(network) / 1e6)) == ("310M", 310)
    assert variant_of(MODELS, "nfig", entry.config) == "nfig-d16"
    assert variant_of(MODELS, "var", MODELS.get_variant("var-d16").config) == "var-d16"
    tokenizer = TOKENIZERS.get_variant("nfig-vqvae").config
    assert variant_of(TOKENIZERS, "var-vqvae", tokenizer) == "nfig-vqvae"


def test_drawing_with_memory_gives_the_outputs_of_one_pass() -> None:
    model, seen = build(), []
    hook = model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    blank_tokens, label = empty(LAYOUT, codes=1), {"label": torch.tensor([1])}
    rows = model.begin(blank_tokens, label, Options(StepRamp(1.0)), SeededNoise(0))
    (lead,) = generate(model, rows)
    hook.remove()
    fed, _ = model.canvas.teach(lead.tokens)
    assert fed is not None
    pair = {"label": torch.tensor([1, 3])}
    twice = empty(LAYOUT, batch=2, codes=1)
    packed = Packed(twice, batch([teacher_slots(LAYOUT)] * 2), [pair], fed=fed.expand(2, -1, -1))
    whole = model(packed, NoMemory())
    torch.testing.assert_close(torch.cat(seen, dim=1), whole, rtol=1e-9, atol=1e-9)
