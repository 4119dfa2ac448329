"""VQGAN's GPT."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from limner.core.errors import ConfigError, LimnerError
from limner.core.layout import grid
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS
from limner.core.request import Request
from limner.core.row import Options
from limner.core.tokens import empty, from_ids
from limner.decoding import generate
from limner.hub.build import parameter_count, weightless
from limner.models.taming_gpt import TamingGPT, TamingGPTConfig
from limner.orders.curves import CURVES

TINY = TamingGPTConfig(16, 2, 2, codebook_size=20, places=20, prefix=3, classes=0)
LAYOUT = grid(4, 4)


def model(**fields: object) -> TamingGPT:
    torch.manual_seed(0)
    made = TamingGPT(replace(TINY, **fields)).double().eval()  # type: ignore[arg-type]
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def given(rows: int = 2, length: int = 3) -> dict[str, torch.Tensor]:
    return {"prefix": torch.randint(20, (rows, length), generator=torch.Generator().manual_seed(1))}


def ids() -> torch.Tensor:
    return torch.randint(20, (2, 16), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
@pytest.mark.parametrize("curve", ["raster", "spiral-out", "z-curve"])
def test_drawing_step_by_step_is_drawing_from_the_teacher(curve: str) -> None:
    network = model(curve=curve)
    rows = []
    for index in range(2):
        own = {"prefix": given()["prefix"][index : index + 1]}
        blank = empty(LAYOUT, codes=1)
        rows += network.begin(blank, own, Options(temperature=0.0), SeededNoise(index))
    drawn = torch.cat(
        [row.tokens.ids for row in generate(network, rows) if row.tokens.ids is not None]
    )
    logits = network.teach(from_ids(LAYOUT, drawn.squeeze(-1)), given())
    path = CURVES[curve](4, 4)
    assert torch.equal(logits.argmax(dim=-1), drawn[:, path, 0])


@torch.no_grad()
@pytest.mark.parametrize("curve", ["raster", "boustrophedon"])
def test_a_code_changes_only_what_is_drawn_after_it(curve: str) -> None:
    network, path = model(curve=curve), CURVES[curve](4, 4)
    other = ids()
    other[:, path[6]] = (other[:, path[6]] + 1) % 20
    before, after = (network.teach(from_ids(LAYOUT, x), given()) for x in (ids(), other))
    changed = (before - after).abs().amax(dim=-1) > 1e-12
    assert not changed[:, :7].any() and changed[:, 7:].all()


@torch.no_grad()
def test_an_open_prefix_is_read_whole() -> None:
    last = given()
    last["prefix"] = last["prefix"].clone()
    last["prefix"][:, -1] = (last["prefix"][:, -1] + 1) % 20
    tokens = from_ids(LAYOUT, ids())
    for open_prefix in (0, 3):
        network = model(open_prefix=open_prefix)
        hidden: list[torch.Tensor] = []
        network.blocks[-1].register_forward_hook(lambda *call, into=hidden: into.append(call[-1]))
        for condition in (given(), last):
            network.teach(tokens, condition)
        moved = (hidden[0][:, 0] != hidden[1][:, 0]).any()
        assert bool(moved) == (open_prefix == 3)


def test_replaced_codes_are_read_and_clean_ones_are_learned() -> None:
    network = model(keep=0.5)
    tokens = from_ids(LAYOUT, ids())
    clean = network.loss(tokens, given()).total.item()
    losses = {
        network.loss(tokens, given(), torch.Generator().manual_seed(seed)).total.item()
        for seed in range(3)
    }
    assert len(losses) == 3 and clean not in losses
    assert torch.equal(tokens.ids.squeeze(-1), ids())  # type: ignore[union-attr]


def test_loss_is_the_cross_entropy_in_drawing_order() -> None:
    network = model(curve="z-curve")
    tokens = from_ids(LAYOUT, ids())
    logits = network.teach(tokens, given())
    wanted = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids()[:, CURVES["z-curve"](4, 4)].flatten()
    )
    torch.testing.assert_close(network.loss(tokens, given()).total, wanted.float())


def test_what_it_can_be_asked() -> None:
    classes = model(prefix=1, classes=5).condition
    assert classes.ask(Request(2, labels=[4, 0]))["prefix"].tolist() == [[4], [0]]
    assert classes.ask(Request(2))["prefix"].tolist() == [[0], [0]]
    with pytest.raises(ConfigError, match="class=5"):
        classes.ask(Request(1, labels=[5]))
    with pytest.raises(ConfigError, match="prompts"):
        classes.ask(Request(1, prompts=["a cat"]))
    with pytest.raises(ConfigError, match="prefix=3"):
        model().condition.ask(Request(1))
    with pytest.raises(LimnerError, match="guidance"):
        model().null(given())


def test_pictures_longer_than_the_places_are_named() -> None:
    with pytest.raises(ConfigError, match=r"25 tokens.*18 tokens at most"):
        model().teach(from_ids(grid(5, 5), torch.zeros(1, 25, dtype=torch.int64)), given(1))


def test_published_counts() -> None:
    for variant in MODELS.variants():
        if variant.family == "taming-gpt":
            with weightless():
                count = parameter_count(TamingGPT(variant.config))
            wanted = 1.4e9 if variant.published == "1.4B" else variant.published
            assert count == pytest.approx(wanted, rel=0.01 if wanted == 1.4e9 else 0)
