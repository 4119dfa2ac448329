"""A case and the account it keeps."""

import pytest
import torch

from limner.verify.case import Case, CaseError

PATTERNS = {
    "x": "",
    "c{i}_noise": "",
    "gen_cfg{scale}_ids": "",
    "gen_cfg{scale}_logits": "",
    "gen_cfg{scale}_interval{k}_ids": "",
    "gen_cfg9_ids": "",
}
NAMES = ("x", "c0_noise", "gen_cfg1.5_ids", "gen_cfg2_interval3_ids", "gen_cfg9_ids")


@pytest.fixture
def case(make_case):
    tensors = {name: torch.arange(6).reshape(2, 3) for name in NAMES}
    tensors["gen_cfg1.5_logits"] = torch.eye(6).reshape(2, 3, 6)
    arguments = {
        "gen_cfg{scale}_ids": {"scale": "{scale}", "noise": "c0_noise"},
        "gen_cfg{scale}_interval{k}_ids": {"scale": "{scale}", "interval": "{k}"},
        "gen_cfg9_ids": {"scale": 9.0},
    }
    inputs = ["x", "c{i}_noise"]
    folder = make_case(
        tensors,
        io=PATTERNS,
        inputs=inputs,
        arguments=arguments,
        tolerance={"gen_cfg{scale}_logits": 0.5},
    )
    return Case(folder)


def test_patterns_name_their_own_tensors(case):
    assert list(case.match("gen_cfg{scale}_ids")) == [("gen_cfg1.5_ids", {"scale": 1.5})]
    assert list(case.match("gen_cfg{scale}_interval{k}_ids")) == [
        ("gen_cfg2_interval3_ids", {"scale": 2, "k": 3})
    ]
    every = [name for name, _ in case.match("gen_{run}_ids")]
    assert every == ["gen_cfg1.5_ids", "gen_cfg2_interval3_ids", "gen_cfg9_ids"]


def test_arguments_of_the_name_or_the_best_pattern(case):
    assert case.arguments("gen_cfg1.5_ids") == {"scale": 1.5, "noise": "c0_noise"}
    assert case.arguments("gen_cfg2_interval3_ids") == {"scale": 2, "interval": 3}
    assert case.arguments("gen_cfg9_ids") == {"scale": 9.0}
    assert case.arguments("x") == {}


def test_every_tensor_must_be_read_or_checked(case):
    case.input("x")
    case.input("gen_cfg9_ids")  # an output that is read must be checked all the same
    case.check("gen_cfg1.5_ids", torch.arange(6).reshape(2, 3))
    left = {line.name: line.outcome.note for line in case.unaccounted()}
    assert left == {
        "c0_noise": "an input that was never read",
        "gen_cfg9_ids": "was not checked",
        "gen_cfg2_interval3_ids": "was not checked",
        "gen_cfg1.5_logits": "was not checked",
    }


def test_checks_use_the_cases_own_tolerance(case):
    logits = torch.eye(6).reshape(2, 3, 6)
    case.check("gen_cfg1.5_logits", logits * 1.4)
    case.check("gen_cfg1.5_logits", logits * 1.6)
    assert [line.outcome.ok for line in case.lines] == [True, False]


def test_what_the_case_does_not_hold_is_not_checked_but_cannot_be_read(case):
    case.check("loss", torch.zeros(()))
    assert case.lines == []
    with pytest.raises(CaseError, match="no tensor 'loss'; it holds c0_noise"):
        case.input("loss")
    with pytest.raises(CaseError, match=r"weights\.safetensors cannot be read"):
        case.weights()


def test_a_replay_cannot_spoil_the_reference(case):
    case.input("gen_cfg9_ids").fill_(7)
    case.check("gen_cfg9_ids", torch.full((2, 3), 7))
    assert not case.lines[0].outcome.ok


def test_noise_is_replayed_row_by_row(case):
    noise = case.noise({"token": "c0_noise"}, row=1)
    assert noise.uniform("token", torch.tensor([2, 0]), 0).tolist() == [5, 3]
    assert "c0_noise" not in {line.name for line in case.unaccounted()}
    with pytest.raises(CaseError, match="no tensor 'c1_noise'"):
        case.noise({"token": "c1_noise"})
