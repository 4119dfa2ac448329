"""Distilling a small teacher of real pictures: its map from noise to codes, and their pairs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from limner.core.noise import SeededNoise
from limner.core.row import Options
from limner.core.tokens import Tokens, empty, stack
from limner.decoding import generate
from limner.heads.mixtures import Mixture
from limner.models.distilled_llamagen import DistilledLlamaGen, DistilledLlamaGenConfig
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.training import distillation
from tests.learning.lessons import Lessons, codes, learn

pytestmark = pytest.mark.slow

CODES, WIDTH, TOKENS = 16, 6, 16
WHOLE = 40  # px of drawings of which the middle is learned: plain corners are told without noise
PAIRS, HELD_OUT, FRESH = 4608, 512, 10_000_000
SIZE = {"width": 96, "depth": 4, "heads": 4, "codebook_size": CODES, "multiple_of": 32}


@dataclass(frozen=True, eq=False)
class Taught:
    """A teacher's pairs and two students of it.

    Args:
        data: codes of real pictures.
        vectors: of the codes, float [V, D].
        ids: the teacher's, of the noise of seeds from 0 on, int64 [P + H, N].
        student: learned from the pairs.
        misled: learned from the same with the noise of others.
    """

    data: Lessons
    vectors: Tensor
    ids: Tensor
    student: DistilledLlamaGen
    misled: DistilledLlamaGen


def noises(index: Tensor) -> Tensor:
    """Return the noise of pairs, float [B, N, D]."""
    every = torch.arange(TOKENS)
    each = [SeededNoise(seed).normal("start", every, 0, (WIDTH,)) for seed in index.tolist()]
    return torch.stack(each).float()


@pytest.fixture(scope="module")
def taught() -> Taught:
    data, tokenizer = codes(8, WIDTH, CODES, WHOLE)
    vectors, classes = tokenizer.code_vectors().clone(), len(data.classes)
    vectors = vectors / vectors.std()  # codes as far apart as noise is wide
    torch.manual_seed(0)
    teacher = LlamaGen(LlamaGenConfig(classes=classes, dropout=0.0, **SIZE))  # type: ignore[arg-type]

    def teach(rng: torch.Generator) -> Tensor:
        tokens, labels = data.batch(64, rng)
        return teacher.loss(tokens, {"label": labels}, rng).total

    learn(teacher, teach, 400, 3e-3)
    labels = torch.arange(PAIRS + HELD_OUT) % classes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "AT_ONCE", 1024)  # one core walks as many together faster
        ids = distillation.teacher_ids(teacher, vectors, data.layout, labels, 0, Options())
    noise = noises(torch.arange(PAIRS))
    # the second step begins as far on as published: 80 of 256
    config = DistilledLlamaGenConfig(
        classes=classes, dropout=0.0, latent=WIDTH, tokens=TOKENS, split=TOKENS, jumps=(0, 5),
        **SIZE,
    )  # type: ignore[arg-type]  # fmt: skip
    elsewhere = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(0))
    students = []
    for source in (torch.arange(PAIRS), elsewhere):
        torch.manual_seed(0)
        student = DistilledLlamaGen(config)
        student.start_from(teacher)

        def distil(
            rng: torch.Generator,
            student: DistilledLlamaGen = student,
            source: Tensor = source,
        ) -> Tensor:
            index = torch.randint(PAIRS, (64,), generator=rng)
            known = torch.ones(64, TOKENS, dtype=torch.bool)
            tokens = Tokens(data.layout, ids[index].unsqueeze(-1), noise[source[index]], known)
            return student.loss(tokens, {"label": labels[index]}, rng, vectors).total

        learn(student, distil, 1300, 1.5e-3)
        students.append(student)
    return Taught(data, vectors, ids, *students)


def drawn(taught: Taught, student: DistilledLlamaGen, first: int, count: int, steps: int) -> Tensor:
    """Return what a student draws of the noise of seeds from `first` on, int64 [count, N]."""
    rows = []
    for index in range(count):  # classes in turn, as of the pairs
        given = empty(taught.data.layout, codes=1, width=WIDTH)
        label = {"label": torch.tensor([(first + index) % len(taught.data.classes)])}
        options = Options(mixture=Mixture(taught.vectors), steps=steps)
        rows += student.begin(given, label, options, SeededNoise(first + index))
    ids = stack([row.tokens for row in generate(student, rows)]).ids
    assert ids is not None
    return ids[..., 0]


def agreement(taught: Taught, student: DistilledLlamaGen, steps: int) -> float:
    """Return the share of the teacher's codes of held-out noise that a student finds."""
    found = drawn(taught, student, PAIRS, HELD_OUT, steps)
    return float((found == taught.ids[PAIRS:]).float().mean())


def test_a_student_finds_the_teachers_codes_and_in_two_steps_more_of_them(taught: Taught) -> None:
    one, two = (agreement(taught, taught.student, steps) for steps in (1, 2))
    misled = agreement(taught, taught.misled, 1)
    # so many are found without the noise, by class and place
    kinds = torch.arange(PAIRS + HELD_OUT) % len(taught.data.classes)
    likeliest = torch.stack(
        [taught.ids[:PAIRS][kinds[:PAIRS] == kind].mode(0).values for kind in kinds.unique()]
    )
    by_chance = float((taught.ids[PAIRS:] == likeliest[kinds[PAIRS:]]).float().mean())
    assert one > 2 * by_chance and one > 2 * misled
    assert two > one + 0.01


def pairs(ids: Tensor) -> Tensor:
    """Return how often neighbours have each pair of codes, float [pairs, V V]."""
    grid = ids.unflatten(1, (4, 4))
    beside = CODES * grid[:, :, :-1] + grid[:, :, 1:]
    below = CODES * grid[:, :-1] + grid[:, 1:]
    joined = torch.cat([beside.flatten(1), below.flatten(1)], dim=1)
    counts = torch.stack([torch.bincount(each, minlength=CODES**2) for each in joined.T])
    return counts / counts.sum(1, keepdim=True)


def test_neighbouring_codes_of_a_student_belong_together(taught: Taught) -> None:
    reference, own = pairs(taught.ids[:PAIRS]), drawn(taught, taught.student, FRESH, 2048, 1)
    rng = torch.Generator().manual_seed(0)
    independent = torch.stack(
        [column[torch.randperm(PAIRS, generator=rng)[:2048]] for column in taught.ids[:PAIRS].T], 1
    )
    apart = [
        float((pairs(ids) - reference).abs().sum(1).mean() / 2)
        for ids in (own, independent, taught.ids[PAIRS:])
    ]
    assert apart[0] < 0.8 * apart[1]
