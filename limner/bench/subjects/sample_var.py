"""Drawing pictures by VAR under classes, beside FoundationVision/VAR.

The official step is `autoregressive_infer_cfg` of models/var.py in float32, with the settings of
its README: a guidance of 1.5, the 900 likeliest codes that make up 0.96. Tokens and pixels are
timed apart. The same weights on both sides, random ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limner.bench.counting import counted
from limner.bench.drawing import PIXELS, TOKENS, Drawing, large, random_labels
from limner.bench.official import fill, official_module
from limner.bench.settings import BenchError, Settings
from limner.bench.subject import Candidate, Subject, timed
from limner.bench.work import Work
from limner.core.registry import MODELS, TOKENIZERS
from limner.heads.guidance import StepRamp
from limner.hub.build import weightless
from limner.hub.official import var as hub
from limner.models.var import VAR, VARConfig
from limner.pipeline import Pipeline
from limner.pipeline.compilation import compile_blocks
from limner.tokenizers.var_vqvae import VARVQVAE, VARVQVAEConfig

TOKENIZER = "var-vqvae"
GUIDANCE, TOP_K, TOP_P = 1.5, 900, 0.96


def square_config(settings: Settings) -> VARConfig:
    """Return the configuration of a model with square scales; another one is refused."""
    config: VARConfig = MODELS.get_variant(settings.model).config
    if any(height != width for height, width in config.sizes):
        raise BenchError(f"model={settings.model!r} is not accepted: its scales must be squares")
    return config


def labels(settings: Settings) -> Tensor:
    """Return random classes, int64 [B]."""
    return random_labels(settings, square_config(settings).classes)


def transformer(settings: Settings) -> VAR:
    """Return our transformer with the weights that both sides have."""
    model: VAR = MODELS.create(settings.model)
    fill(hub.TRANSFORMER.table(model.config).to_official(model.state_dict()), settings.seed)
    return model.to(settings.device)


def tokenizer_config() -> VARVQVAEConfig:
    """Return the published configuration."""
    config: VARVQVAEConfig = TOKENIZERS.get_variant(TOKENIZER).config
    return config


def tokenizer(settings: Settings) -> VARVQVAE:
    """Return our tokenizer with the weights that both sides have."""
    config = tokenizer_config()
    with weightless():
        blank = hub.tokenizer_table(config).to_official(VARVQVAE(config).state_dict())
    state = {name: torch.empty(part.shape) for name, part in blank.items()}
    fill(state, settings.seed)
    made: VARVQVAE = hub.TOKENIZER.build(config, state)
    return made.eval().to(settings.device)


def drawing(settings: Settings) -> Drawing:
    """Return what draws on our side."""
    classes = labels(settings).tolist()
    pixels, model = tokenizer(settings), transformer(settings).eval()
    if settings.compile:
        compile_blocks(model, dynamic=True)
    side = model.config.sizes[-1][0] * pixels.factor
    return Drawing(
        Pipeline(pixels, model, size=(side, side)),
        classes=classes,
        guidance=StepRamp(GUIDANCE),
        top_k=TOP_K,
        top_p=TOP_P,
    )


def ours(settings: Settings) -> Candidate:
    """Return limner's side."""
    drawn = drawing(settings)
    return Candidate(drawn, drawn.greedy, drawn.preview)


def official(settings: Settings, checkout: str) -> Candidate:
    """Return the official side."""
    pixels = official_tokenizer(settings, checkout)
    model = official_transformer(settings, checkout, pixels).eval()
    if settings.compile:
        for block in model.blocks:
            block.compile(dynamic=True)
    decode, parts, ids = pixels.fhat_to_img, dict[str, float](), list[Tensor]()
    classes = labels(settings)

    def decoded(latents: Tensor) -> Tensor:
        with timed(parts, PIXELS):
            pictures: Tensor = decode(latents)
        return pictures

    pixels.fhat_to_img = decoded
    pixels.quantize.embedding.register_forward_hook(lambda layer, given, _: ids.append(given[0]))

    def drawn(**options: Any) -> None:
        ids.clear()
        model.autoregressive_infer_cfg(len(classes), classes, settings.seed, GUIDANCE, **options)

    def step() -> dict[str, float]:
        parts.clear()
        with timed(parts, TOKENS):
            drawn(top_k=TOP_K, top_p=TOP_P)
        return {**parts, TOKENS: parts[TOKENS] - parts[PIXELS]}

    def answer() -> list[float]:
        drawn(top_k=1)
        return [float(code) for code in torch.cat(ids, dim=1).flatten()]

    return Candidate(step, answer)


def official_tokenizer(settings: Settings, checkout: str) -> Any:
    """Return the official tokenizer with the weights that both sides have."""
    config = tokenizer_config()
    sides = [rows for rows, _ in square_config(settings).sizes]
    model = official_module(checkout, "models.vqvae").VQVAE(
        vocab_size=config.quantizer.codebook_size,
        z_channels=config.quantizer.width,
        ch=config.convolution.channels,
        share_quant_resi=config.quantizer.phi_count,
        quant_resi=config.quantizer.phi_ratio,
        v_patch_nums=tuple(sides),
        test_mode=True,
    )
    fill(dict(model.named_parameters()), settings.seed)
    return model.to(settings.device)


def official_transformer(settings: Settings, checkout: str, pixels: Any) -> Any:
    """Return the official transformer with the weights that both sides have."""
    config = square_config(settings)
    model = official_module(checkout, "models.var").VAR(
        vae_local=pixels,
        num_classes=config.classes,
        depth=config.depth,
        embed_dim=config.width,
        num_heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        drop_path_rate=config.drop_path,
        norm_eps=config.norm_eps,
        shared_aln=config.shared_adaln,
        cond_drop_rate=config.condition_dropout,
        attn_l2_norm=config.cosine,
        patch_nums=tuple(rows for rows, _ in config.sizes),
    )
    fill(dict(model.named_parameters()), settings.seed)
    return model.to(settings.device)


def work(settings: Settings) -> Work:
    """Return what our drawing computes."""
    drawn = drawing(settings)
    return counted(drawn, reads=large(drawn.pipeline.generator))


SUBJECT = Subject(
    ours,
    official,
    work,
    tolerance=0.0,
    agreeing=0.99,
    tokens=lambda settings: square_config(settings).length * settings.batch,
)
