"""`limner cache` and `limner sample --cache`."""

import json

import pytest
import torch
from PIL import Image

from limner.cli.command import main
from limner.core.seeds import seeded
from limner.models.infinity import Infinity, InfinityConfig
from limner.pipeline import Pipeline
from limner.tokenizers.patch_bits import PatchBits, PatchBitsConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = PatchBits(PatchBitsConfig(width=6))
    tokenizer.fit(torch.rand(8, 3, 32, 32) * 2 - 1, seeded(0, "fit"))
    sizes = {"width": 16, "depth": 2, "heads": 1, "bits": 6, "text_length": 4, "text_width": 16}
    model = Infinity(InfinityConfig(**sizes, condition="caption", levels=6, gate_gain=1.0))
    path = tmp_path_factory.mktemp("pipeline") / "infinity"
    Pipeline(tokenizer, model, size=(32, 32)).save_pretrained(path)
    return path


def test_a_budget_is_compared_found_saved_and_used(folder, tmp_path, capsys):
    budget, page = tmp_path / "budget.json", tmp_path / "cache.png"
    asked = ["--prompt", "a fox", "a cat", "--device", "cpu"]
    found = ["--cache", "0.4", "--drafters", "3", "--save", str(budget), "--output", str(page)]
    assert main(["cache", str(folder), *asked, *found]) == 0
    said = capsys.readouterr().out
    # two pictures, two layers of 26 of 66 entries of keys and values, 16 channels of 4 bytes
    assert f"{2 * 2 * 26 * 2 * 16 * 4:,} of {2 * 2 * 66 * 2 * 16 * 4:,} bytes (39.4%)" in said
    assert "tokens changed" in said and Image.open(page).size[0] > 0
    assert sum(json.loads(budget.read_text())["kept"][-1]) == 2 * 26
    output = str(tmp_path / "drawn")
    assert main(["sample", str(folder), *asked, "--cache", str(budget), "--output", output]) == 0
    assert "keys and values: " in capsys.readouterr().err


def test_a_picture_says_its_budget_and_is_drawn_again_with_it(folder, tmp_path, capsys):
    output = tmp_path / "drawn"
    asked = ["--prompt", "a fox", "--cache", "0.25", "--device", "cpu", "--no-preview"]
    assert main(["sample", str(folder), *asked, "--output", str(output)]) == 0
    (picture,) = output.glob("*.png")
    again = ["sample", "--from", str(picture), "--output", str(output), "--no-preview"]
    assert main(again) == 0
    assert "is not the same" not in capsys.readouterr().err


def test_bad_input(folder, tmp_path, capsys):
    for arguments, message in (
        ([], "--cache is missing"),
        (["--cache", "0.001"], "a share from 0.061 to 1"),
        (["--cache", "0.4", "--save", "x.json"], "--save is not accepted"),
        (["--cache", "x.json", "--drafters", "2"], "--drafters is not accepted"),
        (["--cache", "0.4", "--drafters", "99"], "from 0 to 10 pairs"),
    ):
        asked = ["cache", str(folder), "--prompt", "a fox", *arguments]
        assert main([*asked, "--output", str(tmp_path / "never.png")]) != 0
        assert message in capsys.readouterr().err
    assert not (tmp_path / "never.png").exists()
