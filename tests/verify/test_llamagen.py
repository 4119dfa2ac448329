"""The reference cases of LlamaGen, through the same loop, heads and tokenizer that users run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limner.verify import verify

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "llamagen"


def _failures(folder):
    report = verify([folder], write=lambda line: None)
    return {
        line.name: line.outcome
        for case in report.cases
        for line in case.lines
        if not line.outcome.ok
    }


def _copy(name, tmp_path):
    shutil.copytree(CASES / name, tmp_path / name)
    return tmp_path / name


def _edit(file, name, change):
    tensors = load_file(file)
    tensors[name] = change(tensors[name])
    save_file(tensors, file)


@pytest.mark.parametrize("name", ["gpt-c2i", "gpt-c2i-patterns", "gpt-t2i", "vq"])
def test_reference_cases_are_reproduced(name):
    assert _failures(CASES / name) == {}


@pytest.mark.parametrize(
    ("case", "output"),
    [
        ("gpt-c2i-patterns", "logits"),
        ("gpt-c2i-patterns", "loss"),
        ("gpt-c2i-patterns", "freqs_cis"),
        ("gpt-c2i-patterns", "gen_cfg3_interval1_logits"),
        ("gpt-c2i-patterns", "filter_topk7_topp0.85"),
        ("vq", "decoded"),
        ("vq", "commit_loss"),
    ],
)
def test_a_perturbed_reference_is_noticed(case, output, tmp_path):
    folder = _copy(case, tmp_path)
    _edit(folder / "io.safetensors", output, lambda tensor: tensor + 2e-4 * _largest(tensor))
    assert set(_failures(folder)) == {output}


def test_another_id_is_noticed(tmp_path):
    folder = _copy("gpt-c2i-patterns", tmp_path)

    def other(ids):
        ids[1, 5] = (ids[1, 5] + 1) % 20
        return ids

    _edit(folder / "io.safetensors", "gen_cfg1.5_ids", other)
    assert set(_failures(folder)) == {"gen_cfg1.5_ids"}


@pytest.mark.parametrize("name", ["layers.1.attention.wo.weight", "cls_embedding.uncond_embedding"])
def test_other_weights_are_noticed(name, tmp_path):
    folder = _copy("gpt-t2i", tmp_path)
    _edit(folder / "weights.safetensors", name, lambda tensor: tensor * 1.01)
    failures = set(_failures(folder))
    assert "gen_cfg3_logits" in failures and "freqs_cis" not in failures
    # without guidance the null features are not read
    assert ("gen_cfg1_logits" in failures) == (name != "cls_embedding.uncond_embedding")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("norm.weight"), "missing: norm.weight"),
        (lambda state: state.update(more=torch.zeros(1)), "does not know: more"),
        (lambda state: state.update({"norm.weight": torch.ones(3)}), "norm.weight is [3]"),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_weights_that_do_not_fit_are_one_failure(change, message, tmp_path):
    folder = _copy("gpt-c2i-patterns", tmp_path)
    state = load_file(folder / "weights.safetensors")
    change(state)
    save_file(state, folder / "weights.safetensors")
    assert message in _failures(folder)["replay"].note


def test_settings_come_from_the_arguments(tmp_path):
    folder = _copy("gpt-c2i-patterns", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["arguments"]["gen_cfg{scale}_interval{k}_ids"]["cfg_interval"] = 0
    (folder / "config.json").write_text(json.dumps(config))
    assert "gen_cfg3_interval1_logits" in _failures(folder)


def _largest(tensor):
    return tensor[tensor.isfinite()].abs().max()
