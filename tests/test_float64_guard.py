"""Nothing that runs on a device needs float64 there, or mixes its tensors with those of the CPU.

Apple's MPS is such a device; here one is pretended (`tests.pretend`). Tables of float64 that stay
on the CPU, or are cast before they are moved, are as they should be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import limner.heads.diffusion
from limner.core.generator import Generator
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.request import Request
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens
from limner.heads.diffusion import DiffusionConfig
from limner.heads.flow import FlowConfig
from limner.heads.multistage import MultistageConfig
from limner.layers.convolution import ConvolutionConfig
from limner.layers.flow_transformer import FlowTransformerConfig
from limner.layers.vision_transformer import StackConfig
from limner.models.ecar import ECAR, ECARConfig
from limner.models.flexvar import FlexVAR, FlexVARConfig
from limner.models.flowar import FlowAR, FlowARConfig
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.models.mar import MAR, MARConfig
from limner.models.nfig import NFIG, NFIGConfig
from limner.models.taming_gpt import TamingGPT, TamingGPTConfig
from limner.models.var import VAR, VARConfig
from limner.pipeline import Pipeline
from limner.tokenizers.bsq_vit import BSQViT, BSQViTConfig
from limner.tokenizers.flexvar_vq import FlexVARVQ, FlexVARVQConfig
from limner.tokenizers.kl_autoencoder import KLAutoencoder, KLAutoencoderConfig
from limner.tokenizers.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig
from limner.tokenizers.maskgit_vq import MaskGITVQ, MaskGITVQConfig
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
from limner.tokenizers.quantizers.residual import ResidualVQConfig
from limner.tokenizers.var_vqvae import VARVQVAE, VARVQVAEConfig
from limner.tokenizers.vqgan import VQGAN, VQGANConfig
from tests.pretend import Pretended, pretended_device

CONVOLUTION = ConvolutionConfig(channels=32, multipliers=(1, 2), blocks=1)
PLAIN = ConvolutionConfig(32, (1, 2), 1, encoder_attention=(), decoder_attention=())
STACK = StackConfig(16, 2, 2)
CODES, SIDE, CLASSES = 16, 4, 3
SCALES = (1, 2)


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
}


class Encoder:
    """Stands in for T5: features on the CPU, as long as the prompt."""

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        present = torch.arange(6) < torch.tensor([[min(len(prompt), 6)] for prompt in prompts])
        return torch.randn(len(prompts), 6, 12, generator=rng()), present


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
}


def asked(made: Pipeline) -> dict[str, Any]:
    """Two pictures, by whatever the generator is asked by."""
    if "class" in made.generator.condition.by:
        return {"classes": [0, 2]}
    return {"prompts": ["a red fish", "dog"]}


def pictures(count: int = 2) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=rng()) * 2 - 1


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def tokenizer_of(name: str) -> Tokenizer:
    torch.manual_seed(0)
    made = TOKENIZER_MAKERS[name]()
    fit = getattr(made, "fit", None)
    if fit is not None:
        fit(pictures(20), rng())
    return made.eval()


def pipeline(tokenizer: str, generator: Generator) -> Pipeline:
    for weight in generator.parameters():  # fresh weights draw all alike
        nn.init.normal_(weight, std=0.2, generator=rng())
    return Pipeline(tokenizer_of(tokenizer), generator, ("a", "b", "c"), (SIDE, SIDE))


@pytest.fixture
def device() -> Iterator[torch.device]:
    with pretended_device() as device:
        yield device


def test_every_family_is_held_to_it() -> None:
    held = {name.split()[0] for name in (*TOKENIZER_MAKERS, *MODEL_MAKERS)}
    for registry in (TOKENIZERS, MODELS):
        assert {family.name for family in registry.families()} <= held


def test_the_pretended_device_is_as_strict_as_the_real_one(device: torch.device) -> None:
    there = torch.randn(3, 4, generator=rng()).to(device)
    wide = torch.ones(3, 4, dtype=torch.float64)
    for refused in (
        lambda: there.double(),
        lambda: there.to("cpu", torch.float64),
        lambda: wide.to(device),
        lambda: torch.zeros(2, dtype=torch.float64, device=device),
        lambda: there * torch.tensor([1.0], dtype=torch.float64).to(device),
    ):
        with pytest.raises(TypeError, match="no float64"):
            refused()
    for refused in (
        lambda: there + wide.float(),
        lambda: wide[torch.tensor([0]).to(device)],
        lambda: torch.rand(2, device=device, generator=rng()),
    ):
        with pytest.raises(RuntimeError, match=r"both|random generator"):
            refused()
    assert there.cpu().double().dtype == torch.float64
    assert wide.to(device, torch.float32).device == device
    assert there[torch.tensor([0])].shape == (1, 4) and (there * 2.0).dtype == torch.float32


def test_it_computes_what_the_cpu_computes(device: torch.device) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2))
    given = torch.randn(3, 4)
    network(given).square().mean().backward()
    wanted = [weight.grad.clone() for weight in network.parameters() if weight.grad is not None]
    network.zero_grad(set_to_none=True)
    network.to(device)(given.to(device)).square().mean().backward()
    found = [weight.grad for weight in network.parameters()]
    assert all(isinstance(gradient, Pretended) for gradient in found)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours is not None and torch.equal(ours.cpu(), theirs)


@pytest.mark.parametrize("name", TOKENIZER_MAKERS)
def test_tokenizers(name: str, device: torch.device) -> None:
    made = tokenizer_of(name)
    noise = SeededNoise(0)
    with torch.no_grad():
        wanted = made.encode(pictures(), noise)
        shown = made.decode(wanted)
        made.to(device)
        tokens = made.encode(pictures().to(device), noise)
        assert tokens.known.device == device
        if wanted.ids is not None and tokens.ids is not None:
            assert torch.equal(tokens.ids.cpu(), wanted.ids)
        assert torch.allclose(made.decode(tokens).cpu(), shown, atol=1e-5)
        made.preview(tokens)


@pytest.mark.parametrize("name", [name for name in TOKENIZER_MAKERS if name.startswith("patch")])
def test_fits(name: str, device: torch.device) -> None:
    made = TOKENIZER_MAKERS[name]().to(device)
    made.fit(pictures(20), rng())  # type: ignore[operator]
    assert made.decode(made.encode(pictures().to(device))).device == device


@pytest.mark.parametrize("name", MODEL_MAKERS)
def test_training(name: str, device: torch.device) -> None:
    made = MODEL_MAKERS[name]().to(device)
    with torch.no_grad():
        tokens: Tokens = made.tokenizer.encode(pictures().to(device))
    wanted = asked(made)
    request = Request(2, wanted.get("classes"), wanted.get("prompts"), made.text_encoder)
    condition = made.generator.condition.ask(request)
    condition = {name: value.to(device) for name, value in condition.items()}
    optimizer = torch.optim.AdamW(made.generator.parameters())
    for random in (rng(), None):
        loss = made.generator.train().loss(tokens, condition, random)
        loss.total.backward()
    optimizer.step()
    assert loss.total.device == device and loss.total.dtype == torch.float32


@pytest.mark.parametrize("name", MODEL_MAKERS)
def test_drawing(name: str, device: torch.device) -> None:
    made = MODEL_MAKERS[name]()
    options = {**asked(made), "seed": 3, "temperature": 0.9}
    if name != "taming-gpt":
        options["guidance"] = 2.0
    if made.tokenizer.codes:
        options |= {"top_k": 5, "top_p": 0.9}
    wanted = made(**options)
    drawn = made.to(device)(**options)
    assert drawn.tokens.known.device == device and drawn.pictures.device.type == "cpu"
    assert torch.allclose(drawn.pictures, wanted.pictures, atol=1e-3)
    for preview in made.stream(**options):
        assert preview.pictures.device.type == "cpu"
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[: SIDE // 2] = True
    made.edit(pictures()[0], mask, **options)


def test_a_fault_would_be_found(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    made = mar(steps="3").to(device)
    monkeypatch.setattr(limner.heads.diffusion, "_wide", lambda dtype: torch.float64)
    with pytest.raises(TypeError, match="no float64"):
        made(["a"], seed=3)
