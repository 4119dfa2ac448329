"""Nothing that runs on a device needs float64 there, or mixes its tensors with those of the CPU.

Apple's MPS is such a device; here one is pretended (`tests.pretend`). Tables of float64 that stay
on the CPU, or are cast before they are moved, are as they should be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import limner.heads.diffusion
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.request import Request
from limner.core.tokens import Tokens
from limner.pipeline import Pipeline
from tests.guard_makers import (
    CLASSES,
    MODEL_MAKERS,
    TOKENIZER_MAKERS,
    mar,
    pictures,
    rng,
    tokenizer_of,
)
from tests.pretend import Pretended, pretended_device

UNGUIDED = ("taming-gpt", "distilled-var", "distilled-llamagen")
FROM_THE_FIRST = ("distilled-var", "distilled-llamagen")  # what is given are the first tokens


def asked(made: Pipeline) -> dict[str, Any]:
    """Two pictures, by whatever the generator is asked by."""
    if "class" in made.generator.condition.by:
        subject = hasattr(made.generator.condition, "kind")  # a class more than the names
        return {"classes": [0, CLASSES if subject else 2]}
    return {"prompts": ["a red fish", "dog"]}


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
        wanted = made.encode(pictures(made), noise)
        shown = made.decode(wanted)
        made.to(device)
        tokens = made.encode(pictures(made).to(device), noise)
        assert tokens.known.device == device
        if wanted.ids is not None and tokens.ids is not None:
            assert torch.equal(tokens.ids.cpu(), wanted.ids)
        assert torch.allclose(made.decode(tokens).cpu(), shown, atol=1e-5)
        made.preview(tokens)


@pytest.mark.parametrize("name", [name for name in TOKENIZER_MAKERS if name.startswith("patch")])
def test_fits(name: str, device: torch.device) -> None:
    made = TOKENIZER_MAKERS[name]().to(device)
    made.fit(pictures(made, 20), rng())  # type: ignore[operator]
    assert made.decode(made.encode(pictures(made).to(device))).device == device


@pytest.mark.parametrize("name", MODEL_MAKERS)
def test_training(name: str, device: torch.device) -> None:
    made = MODEL_MAKERS[name]().to(device)
    with torch.no_grad():
        tokens: Tokens = made.tokenizer.encode(pictures(made.tokenizer).to(device))
    wanted = asked(made)
    request = Request(2, wanted.get("classes"), wanted.get("prompts"), encoder=made.text_encoder)
    condition = made.generator.condition.ask(request)
    condition = {name: value.to(device) for name, value in condition.items()}
    more = {}
    if name.startswith("distilled"):  # pairs of noise and what the teacher made of it
        more["codes"] = codes = made.tokenizer.code_vectors()
        noise = torch.randn(2, len(tokens.layout), codes.shape[1], generator=rng())
        tokens.values = noise.to(device)
    optimizer = torch.optim.AdamW(made.generator.parameters())
    for random in (rng(), None):
        loss = made.generator.train().loss(tokens, condition, random, **more)
        loss.total.backward()
    optimizer.step()
    assert loss.total.device == device and loss.total.dtype == torch.float32


@pytest.mark.parametrize("name", MODEL_MAKERS)
def test_drawing(name: str, device: torch.device) -> None:
    made = MODEL_MAKERS[name]()
    options = {**asked(made), "seed": 3, "temperature": 0.9}
    if name not in UNGUIDED:
        options["guidance"] = 2.0
    if made.tokenizer.codes:
        options |= {"top_k": 5, "top_p": 0.9}
    wanted = made(**options)
    drawn = made.to(device)(**options)
    assert drawn.tokens.known.device == device and drawn.pictures.device.type == "cpu"
    assert torch.allclose(drawn.pictures, wanted.pictures, atol=1e-3)
    for preview in made.stream(**options):
        assert preview.pictures.device.type == "cpu"
    shown = pictures(made.tokenizer, 1).to(device)
    given = made.tokenizer.encode(shown)
    given.known[:, len(given.layout) // 2 :] = False
    made.draw_from(given, **options)
    if shown.dim() == 4 and name not in FROM_THE_FIRST:
        mask = torch.zeros(shown.shape[-2:], dtype=torch.bool)
        mask[: len(mask) // 2] = True
        made.edit(pictures(made.tokenizer)[0], mask, **options)


def test_a_fault_would_be_found(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    made = mar(steps="3").to(device)
    monkeypatch.setattr(limner.heads.diffusion, "_wide", lambda dtype: torch.float64)
    with pytest.raises(TypeError, match="no float64"):
        made(["a"], seed=3)
