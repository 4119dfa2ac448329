"""The tutorials' blocks, run with small settings in one folder, where the first trains a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from limner.cli import main
from limner.data import load_packaged
from limner.hub.official.llamagen import GPT, VQ
from limner.layers.convolution import ConvolutionConfig
from limner.make import report
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.show.images import to_images
from limner.tokenizers.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig
from tests.docs.blocks import ROOT, blocks_of, run_page, workplace

START = "docs/index.md"
FIRST = "docs/tutorials/train.md"
OTHERS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "docs" / "tutorials").glob("*.md")
    if path.relative_to(ROOT) != Path(FIRST)
)
CONVOLUTION = "{channels: 32, multipliers: [1, 1, 1]}"
TRAINED = ["--data.size", "16", "--evaluations", "1", "--device", "cpu"]
GENERATOR = [*TRAINED, "--model.config", "{width: 16, depth: 1, heads: 2, multiple_of: 8}"]
GENERATOR += ["--budget", "{steps: 4, batch: 16}", "--sample.each", "1"]
SMALL = {
    "make": [
        *("--size", "16", "--device", "cpu", "--tokenizer.perceptual", "null"),
        *("--tokenizer.tokenizer.config.convolution", CONVOLUTION),
        *("--tokenizer.tokenizer.config.quantizer.codebook_size", "32"),
        *("--tokenizer.objective.discriminator", "{channels: 8, depth: 1}"),
        *("--tokenizer.budget", "{steps: 4, batch: 8}"),
        *("--generator.budget", "{steps: 4, batch: 8}"),
        *("--tokenizer.evaluations", "1", "--generator.evaluations", "1"),
        *("--generator.model.config", "{width: 16, depth: 1, heads: 2, multiple_of: 8}"),
    ],
    "tokenizer": [
        *(*TRAINED, "--budget", "{steps: 4, batch: 8}", "--perceptual", "null"),
        *("--tokenizer.config.convolution", CONVOLUTION),
        *("--tokenizer.config.quantizer.codebook_size", "32"),
        *("--objective.discriminator", "{channels: 8, depth: 1}"),
    ],
    "generator of codes": GENERATOR,
    "more steps": ["--budget.steps", "6", "--device", "cpu"],
    "fine-tuned": GENERATOR,
    "generator": [
        *("--evaluations", "1", "--device", "cpu", "--sample.each", "1"),
        *("--budget", "{steps: 4, batch: 16}", "--model.config", "{width: 32, depth: 1}"),
        *("--data.classes", "[Flags, Objects]"),
    ],
    "drawing": ["--device", "cpu", "--no-preview"],
    "evaluation": [
        *("--samples", "24", "--batch", "12", "--resamples", "20"),
        *("--classifier-steps", "2", "--device", "cpu"),
    ],
    "two sets": ["--resamples", "20", "--device", "cpu"],
    "heads": ["--set", "heads=2"],
    "clips": [
        *("--data.size", "16", "--evaluations", "1", "--device", "cpu", "--sample.each", "1"),
        *("--model.config.stack", "{width: 64, depth: 1, heads: 1}", "--model.config.block", "4"),
        *("--model.config.head.steps", "2", "--budget", "{steps: 4, batch: 8}"),
    ],
    "clip tokenizer": [
        *("--data.size", "16", "--evaluations", "1", "--device", "cpu", "--perceptual", "null"),
        *("--tokenizer.config.widths", "[8, 8, 8]", "--data.classes", "[Activities]"),
        *("--budget", "{steps: 2, batch: 4}"),
    ],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what readers have: pictures of two classes and official files. It is entered,
    and the first tutorial is run there."""
    folder = tmp_path_factory.mktemp("workplace")
    _write_pictures(folder / "photos")
    _write_official(folder)
    with workplace(folder) as patch:
        patch.setattr(report, "CLASSIFIER_SECONDS", 1.0)
        run_page(FIRST, SMALL)
        yield folder


def _write_pictures(folder: Path) -> None:
    """Write real pictures, named as the tutorials name their classes."""
    pictures = load_packaged("twemoji", 24, ["Activities", "Food & Drink"])
    for label, name in enumerate(("cats", "dogs")):
        (folder / name).mkdir(parents=True)
        chosen = (pictures.labels == label).nonzero().flatten()[:24]
        for number, image in enumerate(to_images(pictures.to_float(chosen))):
            image.save(folder / name / f"{number}.png")


def _write_official(folder: Path) -> None:
    """Write small weights in the layout and under the names of LlamaGen's files."""
    tokenizer = LlamaGenVQConfig(
        ConvolutionConfig(32, (1, 2), 1), latent=8, codebook_size=16, codebook_width=4
    )
    generator = LlamaGenConfig(32, 1, 2, codebook_size=16, classes=5, multiple_of=16)
    torch.manual_seed(0)
    for name, part, converter in (
        ("vq_ds16_c2i.pt", LlamaGenVQ(tokenizer), VQ),
        ("c2i_B_256.pt", LlamaGen(generator), GPT),
    ):
        state = converter.table(part.config).to_official(part.state_dict())
        torch.save({"model": state}, folder / name)


def test_the_first_tutorial_runs(trained: Path) -> None:
    assert (trained / "runs/photos/report.html").is_file()
    assert (trained / "runs/fine-tuned/model").is_dir()
    assert (trained / "first.png").is_file()


@pytest.mark.parametrize("page", OTHERS)
def test_a_tutorial_runs(page: str, trained: Path) -> None:
    run_page(page, SMALL)


def test_the_first_page_runs(trained: Path) -> None:
    classes = ["--data.classes", "[Flags, Food & Drink]"]
    command = ["train", "llamagen/tiny", *GENERATOR, *classes, "--output", "runs/quickstart"]
    assert main(command) == 0
    run_page(START, SMALL)


def test_the_readme_runs(trained: Path) -> None:
    run_page("README.md", SMALL)
    assert (trained / "fox.png").is_file()


@pytest.mark.parametrize("page", [START, "README.md", FIRST, *OTHERS])
def test_code_is_marked_unless_it_only_shows(page: str) -> None:
    """Blocks that cannot be run here are written as sh or text."""
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = text.count("```python\n") + text.count("```bash\n")
    marked = [block for block in blocks_of(page) if block.language in ("python", "bash")]
    assert len(marked) == shown > 0
