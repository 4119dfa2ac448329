"""Step annealing by one argument of a pipeline, and of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limner.cli import main
from limner.core.errors import ConfigError
from limner.data import load_packaged
from limner.heads.annealing import StepAnnealing
from limner.heads.diffusion import DiffusionConfig, DiffusionHead
from limner.heads.flow import FlowConfig, FlowHead
from limner.layers.flow_transformer import FlowTransformerConfig
from limner.layers.vision_transformer import StackConfig
from limner.models.flowar import FlowAR, FlowARConfig
from limner.models.mar import MAR, MARConfig
from limner.pipeline import Pipeline
from limner.show import read_settings
from limner.tokenizers.patches import PatchContinuous, PatchContinuousConfig


def tokenizer(scales: tuple[int, ...] = ()) -> PatchContinuous:
    made = PatchContinuous(PatchContinuousConfig(patch=4, width=4, scales=scales))
    made.fit(load_packaged(size=8).to_float(slice(0, 400, 20)), torch.Generator().manual_seed(0))
    return made


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    torch.manual_seed(0)
    stack, head = StackConfig(16, 1, 2), DiffusionConfig(width=16, depth=1, steps="9@950")
    model = MAR(MARConfig(stack, stack, head, 4, 4, classes=2, buffer=2, steps=4))
    return Pipeline(tokenizer(), model, ("Fox", "Oak"), (8, 8))


def test_one_argument_anneals(pipeline: Pipeline) -> None:
    head = pipeline.generator.head
    assert isinstance(head, DiffusionHead)
    seen: list[int] = []
    hook = head.denoiser.register_forward_hook(lambda *_: seen.append(1))
    annealed = pipeline(classes=["Fox"], annealing="9-3")
    assert len(seen) == 9 + 7 + 5 + 3
    hook.remove()
    same = pipeline(classes=["Fox"], annealing=StepAnnealing(9, 3))
    assert torch.equal(annealed.pictures, same.pictures)
    assert annealed.settings[0]["annealing"] == "9-3-linear@950"
    plain = pipeline(classes=["Fox"])
    assert not torch.equal(annealed.pictures, plain.pictures)
    assert "annealing" not in plain.settings[0]
    constant = pipeline(classes=["Fox"], annealing="9-9")
    assert torch.equal(constant.pictures, plain.pictures)


def test_it_anneals_flow_heads_as_well() -> None:
    torch.manual_seed(0)
    flow = FlowConfig(4, times="flowar", guided_from=0.9)
    sizes = {"token_width": 4, "classes": 2, "scales": (1, 2)}
    model = FlowAR(FlowARConfig(16, 1, 1, 2, FlowTransformerConfig(16, 1, 8), flow, **sizes))
    assert isinstance(model.head, FlowHead) and model.head.network is not None
    pipeline = Pipeline(tokenizer((1, 2)), model, ("Fox", "Oak"), (8, 8))
    seen: list[int] = []
    model.head.network.register_forward_hook(lambda *_: seen.append(1))
    pipeline(classes=["Fox"], annealing="8-2")
    assert len(seen) == 8 + 2


def test_the_command_line_says_it_and_a_file_remembers(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.save_pretrained(tmp_path / "mar")
    words = ["sample", str(tmp_path / "mar"), "--class", "Oak", "--device", "cpu", "--no-preview"]
    assert main([*words, "--annealing", "9-3", "--output", str(tmp_path / "out")]) == 0
    file = tmp_path / "out" / "oak-0.png"
    assert read_settings(file)["settings"]["annealing"] == "9-3-linear@950"
    redraw = ["sample", "--from", str(file), "--output", str(tmp_path / "again"), "--no-preview"]
    assert main([*redraw, "--device", "cpu"]) == 0
    (again,) = (tmp_path / "again").glob("*.png")
    assert again.read_bytes() == file.read_bytes()
    capsys.readouterr()
    assert main([*words, "--annealing", "3-9"]) == 2
    assert "upper=3 is not accepted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("annealing", "message"), [("5", "UPPER-LOWER"), ("9-1", "within 2 to 1000 steps")]
)
def test_mistakes_are_said_before_drawing(pipeline: Pipeline, annealing: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline(classes=["Fox"], annealing=annealing)


def test_heads_without_a_solver_refuse(tiny_pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError, match="takes no solver steps"):
        tiny_pipeline(classes=[0], annealing="50-5")
