"""Students of Distilled Decoding: what they read, what they may not, and that jumps chain."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.generator import Packed
from limner.core.layout import grid, pyramid
from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS
from limner.core.row import Options
from limner.core.slots import batch
from limner.core.tokens import empty
from limner.decoding import generate
from limner.heads.guidance import Constant
from limner.heads.mixtures import Mixture
from limner.hub.build import blank, parameter_count
from limner.models.distilled_llamagen import DistilledLlamaGen, DistilledLlamaGenConfig
from limner.models.distilled_var import DistilledVAR, DistilledVARConfig
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.models.var import VAR, VARConfig

CODES = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SHARED = {"width": 16, "depth": 2, "heads": 2, "codebook_size": 7, "classes": 2}
VAR_SIZES = {**SHARED, "latent": 3, "scales": (1, 2, 3)}
GPT_SIZES = {**SHARED, "multiple_of": 8, "dropout": 0.0}
LAYOUTS = {"var": pyramid([(1, 1), (2, 2), (3, 3)]), "llamagen": grid(3, 3)}


@pytest.fixture(scope="module", params=["var", "llamagen"])
def student(request):
    torch.manual_seed(0)
    if request.param == "var":
        model = DistilledVAR(DistilledVARConfig(**VAR_SIZES, split=2, jumps=(0, 1)))
    else:
        config = DistilledLlamaGenConfig(**GPT_SIZES, latent=3, tokens=9, split=4, jumps=(0, 5))
        model = DistilledLlamaGen(config)
    model = model.double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model, LAYOUTS[request.param]


def draw(student, noise, steps=None, label=1):
    model, layout = student
    given = empty(layout, 1, codes=1, width=3, dtype=torch.float64)
    options = Options(mixture=Mixture(CODES), steps=steps)
    rows = model.begin(given, {"label": torch.tensor([label])}, options, noise)
    return generate(model, rows)[0].tokens


class Changed(SeededNoise):
    """Noise of which one token's differs."""

    def __init__(self, token):
        super().__init__(0)
        self.token = token

    def normal(self, purpose, tokens, inner, shape=()):
        numbers = super().normal(purpose, tokens, inner, shape)
        numbers[tokens == self.token] += 1.0
        return numbers


@pytest.mark.parametrize("steps", [1, 2])
def test_a_picture_is_a_function_of_its_noise(student, steps):
    one, again = (draw(student, SeededNoise(0), steps) for _ in range(2))
    assert torch.equal(one.values, again.values) and bool(one.known.all())
    assert not torch.equal(one.values, draw(student, SeededNoise(1), steps).values)
    early = student[0].head.split
    torch.testing.assert_close(one.values[:, :early], CODES[one.ids[:, :early, 0]])


def test_noise_changes_its_own_token_and_later_ones_alone(student):
    model, layout = student
    levels, token = model.levels(layout), 3
    moved = (draw(student, Changed(token), 1).values - draw(student, SeededNoise(0), 1).values)[0]
    changed = moved.abs().amin(-1) > 1e-12
    continuous = torch.arange(len(layout)) >= model.head.split
    later = (levels > levels[token]) | (torch.arange(len(layout)) == token)
    assert torch.equal(changed & continuous, later & continuous)
    assert not bool((moved.abs().amax(-1) > 1e-12)[~later].any())


def test_the_second_step_reads_what_the_first_drew_and_the_same_noise(student):
    model, layout = student
    start = model.starts(layout)[1]
    one, two = draw(student, SeededNoise(0), 1), draw(student, SeededNoise(0), 2)
    assert torch.equal(one.values[:, :start], two.values[:, :start])
    assert not torch.equal(one.values[:, start:], two.values[:, start:])
    every = torch.arange(len(layout))
    noise = SeededNoise(0).normal("start", every, 0, (3,)).unsqueeze(0)
    packed = Packed(
        one, batch([model.slots_from(layout, start)]), [{"label": torch.tensor([1])}], noisy=noise
    )
    outputs = model(packed, NoMemory())
    assert torch.equal(two.ids[:, start:, 0], outputs[..., : len(CODES)].argmax(-1))


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("distilled-var-d16", 328_165_664),
        ("distilled-var-d20", 635_399_088),
        ("distilled-var-d24", 1_092_478_560),
        ("distilled-llamagen-b", 98_321_672),
        ("distilled-llamagen-l", 326_155_272),
    ],
)
def test_published_parameter_counts(variant, count):
    entry = MODELS.get_variant(variant)
    network = blank(MODELS.get_family(entry.family), entry.config)
    assert parameter_count(network) == count == entry.published


def test_a_student_begins_with_its_teachers_weights():
    torch.manual_seed(1)
    teacher = VAR(VARConfig(**VAR_SIZES))
    model = DistilledVAR(DistilledVARConfig(**VAR_SIZES, split=2, jumps=(0,)))
    model.start_from(teacher)
    assert torch.equal(model.output.weight, teacher.output.weight)
    assert torch.equal(model.places.weight[2:], teacher.places.weight[1:])
    assert torch.equal(model.scales.weight[0], teacher.scales.weight[0])
    llama = LlamaGen(LlamaGenConfig(**GPT_SIZES))
    other = DistilledLlamaGen(
        DistilledLlamaGenConfig(**GPT_SIZES, latent=3, tokens=9, split=4, jumps=(0,))
    )
    other.start_from(llama)
    assert torch.equal(other.blocks[1].mlp.out.weight, llama.blocks[1].mlp.out.weight)


def test_what_students_cannot_do_is_refused(student):
    model, layout = student
    blank_tokens = empty(layout, 1, codes=1, width=3, dtype=torch.float64)
    label = {"label": torch.tensor([0])}
    with pytest.raises(ConfigError, match="guidance"):
        model.begin(blank_tokens, label, Options(Constant(2.0)), SeededNoise(0))
    with pytest.raises(ConfigError, match="steps=3"):
        model.begin(blank_tokens, label, Options(steps=3), SeededNoise(0))
    with pytest.raises(ConfigError, match="mixture"):
        generate(model, model.begin(blank_tokens, label, Options(), SeededNoise(0)))
    last = empty(layout, 1, codes=1, width=3, dtype=torch.float64)
    last.known[0, -1] = True
    with pytest.raises(ConfigError, match="first tokens"):
        model.begin(last, label, Options(), SeededNoise(0))
    with pytest.raises(ConfigError, match="jumps"):
        DistilledVARConfig(**VAR_SIZES, split=2, jumps=(1, 2))
