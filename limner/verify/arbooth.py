"""Replays of ARBooth: the subject's words, both losses and their gradients, teacher and student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limner.conditions.subjects import SubjectInText
from limner.core.generator import Generator, Packed
from limner.core.memory import NoMemory
from limner.core.row import Condition
from limner.core.slots import batch
from limner.core.tokens import empty, from_ids
from limner.decoding.teaching import packed_as_drawn
from limner.heads.bitwise import BitwiseHead, by_gumbel
from limner.heads.distillation import hard_distance, soft_distance
from limner.hub.official import arbooth as official
from limner.hub.official import infinity
from limner.hub.official.var import part
from limner.models.arbooth import ARBooth, EachScaleAlone, Layers, counted, scale_weights
from limner.models.infinity import Infinity
from limner.orders import teacher_slots
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBits, MultiScaleBitsConfig
from limner.verify.case import Case, CaseError
from limner.verify.drawing import Drawing, draw
from limner.verify.infinity import caption_condition
from limner.verify.registry import replay

FLAGS: dict[str, Layers] = {
    "enable_sa_layer": "attention",
    "enable_ca_layer": "cross-attention",
    "enable_ffn_layer": "mlp",
}


@replay("arbooth/tune*")
def tuning(case: Case) -> None:
    """The subject's loss, the distillation of the prior, and a greedy run with the subject."""
    weights = case.weights()
    state = part(weights, "student.")
    config = official.config(case.hyper, rows=len(state["special_token"]))
    student: ARBooth = official.TUNED.build(config, state)
    student.canvas = MultiScaleBits(
        MultiScaleBitsConfig(width=case.hyper["codebook_dim"], reads="area")
    )
    parameters = _parameters(state, student)
    _check_tuned(case, student, parameters)
    with_subject = _check_subject(case, student)
    losses = _subject_losses(case, student, with_subject)
    teacher = _teacher(case, student, state | part(weights, "teacher."))
    losses |= _prior_losses(case, student, teacher)
    for name in sorted(case.tensors):
        said = case.arguments(name)
        if "parameter" in said:
            weight = parameters[said["parameter"]]
            (slope,) = torch.autograd.grad(losses[said["of"]], weight, retain_graph=True)
            case.check(name, slope)
    _check_run(case, student, with_subject)


def _parameters(state: Mapping[str, Tensor], student: ARBooth) -> dict[str, nn.Parameter]:
    """Return the student's parameters by their names in the case."""
    ours = {
        next(iter(official.TABLE.to_official({name: weight}))): weight
        for name, weight in student.named_parameters()
    }
    plain = zip(state, infinity.plain_blocks(state), strict=True)
    return {name: ours[inner] for name, inner in plain if inner in ours}


def _check_tuned(case: Case, student: ARBooth, parameters: Mapping[str, nn.Parameter]) -> None:
    """Raise CaseError unless what would be tuned is what the case names."""
    layers = [layer for flag, layer in FLAGS.items() if case.hyper.get(flag)]
    tuned = {id(weight) for weight in student.tuned(layers).values()}
    ours = {name for name, weight in parameters.items() if id(weight) in tuned}
    differ = ours ^ set(case.config["trainable"])
    if differ:
        raise CaseError(f"not tuned by one of both: {', '.join(sorted(differ))}")


def _check_subject(case: Case, student: ARBooth) -> Condition:
    """Check the prompts in which the subject stands, and return their condition."""
    condition = student.base.condition
    assert isinstance(condition, SubjectInText)
    said = case.arguments("text_with_subject")
    texts = caption_condition(case, *said["text"].split(", "))
    asked = condition.with_room(texts, case.input(said["position"]))
    case.check("text_with_subject", condition.prefix(asked)[asked["present"]])
    case.check("text_with_subject_lens", asked["present"].sum(1))
    return asked


def _subject_losses(case: Case, student: ARBooth, condition: Condition) -> dict[str, Tensor]:
    layout = infinity.schedule_layout(case.hyper)
    targets = from_ids(layout, case.input("bits"))
    given = case.input("var_input")
    first = given.new_zeros(len(given), layout.span(0).stop, given.shape[-1])
    slots = batch([teacher_slots(layout)] * len(targets))
    fed = torch.cat([first, given], dim=1)
    logits = student(Packed(targets, slots, [condition], fed=fed), NoMemory())
    case.check("logits", logits.flatten(2))
    said = case.arguments("token_weight")
    weight = scale_weights(layout, said["full_weight_scales"], said["later_weight"])
    case.check("token_weight", weight)
    assert targets.ids is not None
    counts = weight.expand(len(targets), -1)
    losses = {
        "loss": counted(student.head.loss(logits, targets.ids, None, counts), weight).total,
        "loss_unweighted": student.head.loss(logits, targets.ids, None, None).total,
    }
    for name, loss in losses.items():
        case.check(name, loss)
    return losses


def _teacher(case: Case, student: ARBooth, state: Mapping[str, Tensor]) -> Infinity:
    """Return the generator as it was, which draws without a cache."""
    assert isinstance(student.base, Infinity)
    teacher = EachScaleAlone(student.base.config).eval()
    bare = {name: tensor for name, tensor in state.items() if name != "special_token"}
    teacher.load_state_dict(infinity.TRANSFORMER.ours(teacher.config, bare))
    teacher.canvas = student.canvas
    teacher.head = BitwiseHead(teacher.head.stages, by_gumbel)
    return teacher


def _prior_losses(case: Case, student: ARBooth, teacher: Infinity) -> dict[str, Tensor]:
    said = case.arguments("teacher_bits")
    condition = caption_condition(case, *said["text"].split(", "))
    with torch.no_grad():
        drawn = _draw(case, teacher, condition, said)
        case.check("teacher_bits", drawn.ids, logits="teacher_logits")
        case.check("teacher_logits", drawn.logits.flatten(2))
        seen = packed_as_drawn(teacher, drawn.tokens, condition)
        case.check("teacher_embed", teacher.inputs(seen))
    logits = student(packed_as_drawn(student, drawn.tokens, condition), NoMemory())
    case.check("student_reg_logits", logits.flatten(2))
    soft, hard = case.arguments("reg_loss_soft"), case.arguments("reg_loss_hard")
    near = soft_distance(logits, drawn.logits, soft.get("temperature", 1.0))
    losses = {
        "reg_loss_soft": soft.get("reg_lambda", 0.0) * near,
        "reg_loss_hard": hard.get("reg_lambda", 0.0)
        * hard_distance(logits, drawn.logits, student.head),
    }
    for name, loss in losses.items():
        case.check(name, loss)
    return losses


@torch.no_grad()
def _check_run(case: Case, student: ARBooth, condition: Condition) -> None:
    said = case.arguments("gen_bits")
    drawn = _draw(case, student, condition, said)
    case.check("gen_bits", drawn.ids, logits="gen_logits")
    case.check("gen_logits", drawn.logits / said["tau"])
    assert isinstance(student.canvas, MultiScaleBits)
    case.check("gen_codes", student.canvas.decode(drawn.tokens))


def _draw(case: Case, model: Generator, condition: Condition, said: dict[str, Any]) -> Drawing:
    layout, count = infinity.schedule_layout(case.hyper), len(condition["null"])
    noises = None
    if "gumbel" in said:
        noises = [case.noise({"token": said["gumbel"]}, row) for row in range(count)]
    blank = empty(layout, count, codes=case.hyper["codebook_dim"])
    return draw(model, layout, condition, infinity.sampling_options(said), noises, blank)
