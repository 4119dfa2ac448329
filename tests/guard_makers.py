"""A small one of every registered family, for the guard that holds them to strict devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limner.core.config import to_dict
from limner.core.generator import Generator
from limner.core.tokenizer import Tokenizer
from limner.heads.denoising import DenoisingConfig
from limner.heads.diffusion import DiffusionConfig
from limner.heads.flow import FlowConfig
from limner.heads.multistage import MultistageConfig
from limner.layers.convolution import ConvolutionConfig
from limner.layers.flow_transformer import FlowTransformerConfig
from limner.layers.vision_transformer import StackConfig
from limner.models.acdit import ACDiT, ACDiTConfig
from limner.models.ar_diffusion import ARDiffusion, ARDiffusionConfig
from limner.models.arbooth import ARBooth, ARBoothConfig
from limner.models.arflow import ARFlow, ARFlowConfig
from limner.models.distilled_llamagen import DistilledLlamaGen, DistilledLlamaGenConfig
from limner.models.distilled_var import DistilledVAR, DistilledVARConfig
from limner.models.ecar import ECAR, ECARConfig
from limner.models.flexvar import FlexVAR, FlexVARConfig
from limner.models.flowar import FlowAR, FlowARConfig
from limner.models.infinity import Infinity, InfinityConfig
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.models.m_var import MVAR, MVARConfig
from limner.models.mar import MAR, MARConfig
from limner.models.meissonic import Meissonic, MeissonicConfig
from limner.models.nar import NAR, NARConfig
from limner.models.nbp import NBP, NBPConfig
from limner.models.nfig import NFIG, NFIGConfig
from limner.models.taming_gpt import TamingGPT, TamingGPTConfig
from limner.models.token_shuffle import TokenShuffleConfig, TokenShuffleDecoder
from limner.models.var import VAR, VARConfig
from limner.models.xar import XAR, XARConfig
from limner.orders.blocks import NextX
from limner.pipeline import Pipeline
from limner.tokenizers.bsq_vit import BSQViT, BSQViTConfig
from limner.tokenizers.clip_patches import (
    ClipContinuous,
    ClipContinuousConfig,
    ClipKMeans,
    ClipKMeansConfig,
)
from limner.tokenizers.flexvar_vq import FlexVARVQ, FlexVARVQConfig
from limner.tokenizers.infinity_vae import InfinityVAE, InfinityVAEConfig
from limner.tokenizers.kl_autoencoder import KLAutoencoder, KLAutoencoderConfig
from limner.tokenizers.larp import LARP, LARPConfig
from limner.tokenizers.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig
from limner.tokenizers.magvit2_fsq import MAGVIT2FSQ, MAGVIT2FSQConfig
from limner.tokenizers.maskgit_vq import MaskGITVQ, MaskGITVQConfig
from limner.tokenizers.meissonic_vq import MeissonicVQ, MeissonicVQConfig
from limner.tokenizers.patch_bits import PatchBits, PatchBitsConfig
from limner.tokenizers.patch_scales import PatchScales, PatchScalesConfig
from limner.tokenizers.patches import (
    PatchContinuous,
    PatchContinuousConfig,
    PatchKMeans,
    PatchKMeansConfig,
    PatchMultiScale,
    PatchMultiScaleConfig,
)
from limner.tokenizers.quantizers.bsq import BSQConfig
from limner.tokenizers.quantizers.build import QuantizerConfig, VQConfig
from limner.tokenizers.quantizers.fsq import FSQConfig
from limner.tokenizers.quantizers.lfq import LFQConfig
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBitsConfig
from limner.tokenizers.quantizers.residual import ResidualVQConfig
from limner.tokenizers.titok_kl import TiTokKL, TiTokKLConfig
from limner.tokenizers.var_vqvae import VARVQVAE, VARVQVAEConfig
from limner.tokenizers.vqgan import VQGAN, VQGANConfig

CONVOLUTION = ConvolutionConfig(channels=32, multipliers=(1, 2), blocks=1)
PLAIN = ConvolutionConfig(32, (1, 2), 1, encoder_attention=(), decoder_attention=())
STACK = StackConfig(16, 2, 2)
CODES, SIDE, CLASSES = 16, 4, 3
SCALES = (1, 2)
BITS = 5


def vqgan(quantizer: QuantizerConfig) -> Callable[[], Tokenizer]:
    return lambda: VQGAN(VQGANConfig(CONVOLUTION, 8, quantizer))


TOKENIZER_MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "patch-kmeans": lambda: PatchKMeans(PatchKMeansConfig(2, 6, codebook_size=CODES)),
    "patch-multiscale": lambda: PatchMultiScale(
        PatchMultiScaleConfig(2, 6, codebook_size=CODES, scales=SCALES)
    ),
    "patch-multiscale fourier": lambda: PatchMultiScale(
        PatchMultiScaleConfig(2, 6, codebook_size=CODES, scales=SCALES, resampling="fourier")
    ),
    "patch-scales": lambda: PatchScales(
        PatchScalesConfig(2, 6, codebook_size=CODES, scales=SCALES)
    ),
    "patch-continuous": lambda: PatchContinuous(PatchContinuousConfig(2, 6)),
    "patch-continuous pyramid": lambda: PatchContinuous(PatchContinuousConfig(2, 6, scales=SCALES)),
    "clip-kmeans": lambda: ClipKMeans(ClipKMeansConfig(2, 2, 2, 6, codebook_size=CODES)),
    "clip-continuous": lambda: ClipContinuous(ClipContinuousConfig(2, 1, 2, 6)),
    "llamagen-vq": lambda: LlamaGenVQ(LlamaGenVQConfig(CONVOLUTION, 8, codebook_size=CODES)),
    "flexvar-vq": lambda: FlexVARVQ(
        FlexVARVQConfig(CONVOLUTION, 8, codebook_size=CODES, scales=SCALES)
    ),
    "vqgan": vqgan(VQConfig(codebook_size=CODES, width=4)),
    "vqgan rotation": vqgan(VQConfig(codebook_size=CODES, width=4, entropy=0.1, rotation=True)),
    "vqgan residual": vqgan(ResidualVQConfig(levels=2, codebook_size=CODES, width=4)),
    "vqgan fsq": vqgan(FSQConfig(levels=(5, 4))),
    "vqgan lfq": vqgan(LFQConfig(bits=3, groups=2)),
    "vqgan bsq": vqgan(BSQConfig(bits=5)),
    "kl-autoencoder": lambda: KLAutoencoder(KLAutoencoderConfig(PLAIN, latent=6)),
    "maskgit-vq": lambda: MaskGITVQ(MaskGITVQConfig(PLAIN, CODES, 8)),
    "var-vqvae": lambda: VARVQVAE(VARVQVAEConfig(CONVOLUTION, MultiScaleConfig(CODES, 6), SCALES)),
    "bsq-vit": lambda: BSQViT(BSQViTConfig(SIDE, 2, STACK, STACK, 24, BSQConfig(bits=4))),
    "patch-bits": lambda: PatchBits(PatchBitsConfig(2, BITS, scales=SCALES)),
    "infinity-vae": lambda: InfinityVAE(
        InfinityVAEConfig(PLAIN, MultiScaleBitsConfig(BITS), scales=SCALES)
    ),
    "meissonic-vq": lambda: MeissonicVQ(MeissonicVQConfig(PLAIN, 8, CODES, 8)),
    "larp": lambda: LARP(LARPConfig(SIDE, 2, 2, 1, STACK, STACK, (2, 2, 2), CODES, 4)),
    "magvit2-fsq": lambda: MAGVIT2FSQ(MAGVIT2FSQConfig((4, 4, 8), 1, 2, (4, 4), frames=13)),
    "titok-kl": lambda: TiTokKL(TiTokKLConfig(STACK, SIDE, 2, 2, 3, 6, CODES, 8, PLAIN)),
}


class Encoder:
    """Stands in for T5: features on the CPU, as long as the prompt."""

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        present = torch.arange(6) < torch.tensor([[min(len(prompt), 6)] for prompt in prompts])
        return torch.randn(len(prompts), 6, 12, generator=rng()), present

    def pooled(self, prompts: Sequence[str]) -> Tensor:
        return torch.randn(len(prompts), 16, generator=rng())

    def encode_around(self, prompts: Sequence[str], word: str) -> tuple[Tensor, Tensor, Tensor]:
        places = torch.tensor([0 if word in prompt else -1 for prompt in prompts])
        return *self.encode(prompts), places


def llamagen(condition: Literal["class", "text", "caption"]) -> Pipeline:
    config = LlamaGenConfig(
        32, 2, 4, CODES, condition, CLASSES, text_length=5, text_width=12, multiple_of=16
    )
    made = pipeline("patch-kmeans", LlamaGen(config))
    made.text_encoder = Encoder()
    return made


def var() -> Pipeline:
    config = VARConfig(
        width=24, depth=2, heads=3, codebook_size=CODES, latent=6, classes=CLASSES, scales=SCALES
    )
    return pipeline("var-vqvae", VAR(config))


def flexvar() -> Pipeline:
    config = FlexVARConfig(
        24, 2, 3, codebook_size=CODES, latent=6, classes=CLASSES, usual=SCALES, mixed=(), table=4
    )
    return pipeline("patch-scales", FlexVAR(config))


def mar(**head: Any) -> Pipeline:
    config = MARConfig(
        encoder=STACK,
        decoder=STACK,
        head=DiffusionConfig(width=16, depth=2, repeats=2, **head),
        tokens=(SIDE // 2) ** 2,
        token_width=6,
        classes=CLASSES,
        buffer=2,
        steps=4,
    )
    return pipeline("patch-continuous", MAR(config))


def nfig() -> Pipeline:
    config = NFIGConfig(24, 2, 3, codebook_size=CODES, latent=6, classes=CLASSES, scales=SCALES)
    return pipeline("patch-multiscale fourier", NFIG(config))


def flowar(**velocity: Any) -> Pipeline:
    config = FlowARConfig(
        16,
        1,
        1,
        heads=2,
        velocity=FlowTransformerConfig(16, 1, 8, **velocity),
        flow=FlowConfig(4, times="flowar"),
        token_width=6,
        classes=CLASSES,
        scales=SCALES,
    )
    return pipeline("patch-continuous pyramid", FlowAR(config))


def ecar() -> Pipeline:
    config = ECARConfig(
        STACK,
        FlowTransformerConfig(16, 1, 8),
        MultistageConfig((2, 2), (0.0, 0.5, 1.0)),
        token_width=6,
        classes=CLASSES,
        scales=SCALES,
    )
    return pipeline("patch-continuous pyramid", ECAR(config))


def taming_gpt() -> Pipeline:
    config = TamingGPTConfig(16, 2, 2, codebook_size=CODES, places=20, prefix=1, classes=CLASSES)
    return pipeline("patch-kmeans", TamingGPT(config))


def m_var() -> Pipeline:
    config = MVARConfig(
        24,
        2,
        3,
        codebook_size=CODES,
        latent=6,
        classes=CLASSES,
        scales=SCALES,
        mixer_state=5,
        mixer_head_width=12,
    )
    return pipeline("var-vqvae", MVAR(config))


def infinity_config(condition: Literal["text", "caption"]) -> InfinityConfig:
    return InfinityConfig(24, 2, 3, BITS, condition, 8, 12, levels=2, reference="own")


def infinity(condition: Literal["text", "caption"]) -> Pipeline:
    made = pipeline("patch-bits", Infinity(infinity_config(condition)))
    made.text_encoder = Encoder()
    return made


def arbooth_in_text() -> Pipeline:
    config = ARBoothConfig("infinity", to_dict(infinity_config("text")), "fish", 2, 12)
    made = pipeline("patch-bits", ARBooth(config))
    made.text_encoder = Encoder()
    return made


def arbooth_beside() -> Pipeline:
    made = var()
    base = to_dict(made.generator.config)
    config = ARBoothConfig("var", base, rows=1, width=24, kind=1)
    return pipeline("var-vqvae", ARBooth(config))


def distilled_var() -> Pipeline:
    base = vars(var().generator.config)
    made = pipeline("var-vqvae", DistilledVAR(DistilledVARConfig(**base, split=1, jumps=(0, 1))))
    made.defaults = {"smooth": True}
    return made


def distilled_llamagen() -> Pipeline:
    base = vars(llamagen("class").generator.config)
    config = DistilledLlamaGenConfig(**base, latent=6, split=2, jumps=(0, 2), tokens=4)
    made = pipeline("patch-kmeans", DistilledLlamaGen(config))
    made.tokenizer.mixes = True  # it shows the ids: of no use but here
    made.defaults = {"smooth": True}
    return made


def nar() -> Pipeline:
    config = NARConfig(32, 2, 4, CODES, classes=CLASSES, multiple_of=16)
    return pipeline("patch-kmeans", NAR(config))


def nar_clip() -> Pipeline:
    config = NARConfig(
        32,
        2,
        4,
        CODES,
        classes=CLASSES,
        multiple_of=16,
        deeper=(1, 1),
        places="sines",
        tokens=8,
    )
    return pipeline("larp", NAR(config))


def xar() -> Pipeline:
    flow = FlowConfig(3, solver="euler-maruyama", times="late")
    config = XARConfig(STACK, STACK, NextX("rows", 1), flow, 4, 6, CLASSES)
    return pipeline("patch-continuous", XAR(config))


def acdit(tokenizer: str, **blocks: Any) -> Pipeline:
    config = ACDiTConfig(
        StackConfig(64, 1, 1), DenoisingConfig(3), token_width=6, classes=CLASSES, **blocks
    )
    return pipeline(tokenizer, ACDiT(config))


def ar_diffusion(**positions: bool) -> Pipeline:
    config = ARDiffusionConfig(
        STACK, 2, 3, 6, CLASSES, context=4, context_width=8, steps=4, lag=2, **positions
    )
    return pipeline("titok-kl", ARDiffusion(config))


def nbp() -> Pipeline:
    config = NBPConfig(STACK, 16, 2, hybrid=True, prompt=2, prompt_vocabulary=CLASSES, places=12)
    return pipeline("magvit2-fsq", NBP(config))


def token_shuffle() -> Pipeline:
    config = TokenShuffleConfig(
        24, 2, 4, 2, 16, CODES, window=1, text_length=9, log_normaliser=1e-3
    )
    return pipeline("patch-kmeans", TokenShuffleDecoder(config))


def meissonic(condition: Literal["text", "caption"]) -> Pipeline:
    config = MeissonicConfig(
        2,
        8,
        1,
        1,
        (4, 2, 2),
        CODES,
        spare=2,
        condition=condition,
        text_length=6,
        text_width=12,
        steps=3,
    )
    made = pipeline("patch-kmeans", Meissonic(config))
    made.text_encoder = Encoder()
    return made


def arflow() -> Pipeline:
    config = ARFlowConfig(STACK, 6, 2, classes=CLASSES, sequence=2, steps=3, guided_channels=1)
    return pipeline("patch-continuous", ARFlow(config))


MODEL_MAKERS: dict[str, Callable[[], Pipeline]] = {
    "llamagen": lambda: llamagen("class"),
    "llamagen text": lambda: llamagen("text"),
    "llamagen caption": lambda: llamagen("caption"),
    "var": var,
    "flexvar": flexvar,
    "mar": lambda: mar(steps="3"),
    "mar ddim": lambda: mar(steps="ddim3"),
    "nfig": nfig,
    "flowar": flowar,
    "flowar cross": lambda: flowar(cross=True),
    "e-car": ecar,
    "taming-gpt": taming_gpt,
    "m-var": m_var,
    "infinity": lambda: infinity("text"),
    "infinity caption": lambda: infinity("caption"),
    "arbooth": arbooth_in_text,
    "arbooth beside": arbooth_beside,
    "distilled-var": distilled_var,
    "distilled-llamagen": distilled_llamagen,
    "nar": nar,
    "nar clip": nar_clip,
    "xar": xar,
    "acdit": lambda: acdit("patch-continuous", block=1),
    "acdit clip": lambda: acdit("titok-kl", block=3, square=False),
    "ar-diffusion": ar_diffusion,
    "ar-diffusion rotary": lambda: ar_diffusion(rotary=True, head_norm=True),
    "nbp": nbp,
    "token-shuffle": token_shuffle,
    "meissonic": lambda: meissonic("text"),
    "meissonic caption": lambda: meissonic("caption"),
    "arflow": arflow,
}


def pictures(tokenizer: Tokenizer, count: int = 2) -> Tensor:
    """Pictures, or clips where the tokenizer is one of clips."""
    side = max(SIDE, tokenizer.factor)
    frames = getattr(tokenizer.config, "frames", None)
    shape = (3, side, side) if frames is None else (frames, 3, side, side)
    return torch.rand(count, *shape, generator=rng()) * 2 - 1


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def tokenizer_of(name: str) -> Tokenizer:
    torch.manual_seed(0)
    made = TOKENIZER_MAKERS[name]()
    fit = getattr(made, "fit", None)
    if fit is not None:
        fit(pictures(made, 20), rng())
    return made.eval()


def pipeline(tokenizer: str, generator: Generator) -> Pipeline:
    for weight in generator.parameters():  # fresh weights draw all alike
        nn.init.normal_(weight, std=0.2, generator=rng())
    made = tokenizer_of(tokenizer)
    height, width = pictures(made).shape[-2:]
    return Pipeline(made, generator, ("a", "b", "c"), (height, width))
