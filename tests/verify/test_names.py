"""Names with parameters."""

import pytest

from limner.verify.names import best, number, parse, substitute


@pytest.mark.parametrize(
    ("pattern", "name", "parameters"),
    [
        ("gen_cfg{scale}_ids", "gen_cfg1.5_ids", {"scale": "1.5"}),
        ("gen_{run}_ids", "gen_cfg2_interval3_ids", {"run": "cfg2_interval3"}),
        ("snapshot.{name}", "snapshot._lstm.fc.bias", {"name": "_lstm.fc.bias"}),
        ("filter_t{t}_k{k}", "filter_t0.8_k10", {"t": "0.8", "k": "10"}),
        ("{a}_to_{a}", "x_to_x", {"a": "x"}),
        ("{a}_to_{a}", "x_to_y", None),
        ("gen_cfg{scale}_ids", "gen_cfg_ids", None),
        ("gen_cfg{scale}_ids", "gen_cfg2_logits", None),
        ("a.b", "aXb", None),
    ],
)
def test_braces_are_read(pattern, name, parameters):
    assert parse(pattern, name) == parameters


def test_the_name_itself_goes_before_the_most_literal_pattern():
    entries = ["gen{i}", "gen{i}_first", "gen_y", "{any}"]
    assert best("gen_y", entries) == "gen_y"
    assert best("gen0_first", entries) == "gen{i}_first"
    assert best("gen0", entries) == "gen{i}"
    assert best("other", entries) == "{any}"
    assert best("other", entries[:3]) is None
    assert best("a_x_b", ["a_{p}_{q}", "a_{p}_{q}"[:5] + "_b"]) == "a_{p}_b"


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("1.5", 1.5), ("08", 0.8), ("0", 0), ("0.05", 0.05), ("-1", -1), ("1e-4", 1e-4)],
)
def test_numbers_in_names(text, value):
    assert number(text) == value and type(number(text)) is type(value)


@pytest.mark.parametrize("text", ["cosine", "2_interval3", "1.2.3", "v2", "3-"])
def test_what_is_no_number_stays_text(text):
    assert number(text) == text


def test_arguments_are_filled_in_at_any_depth():
    template = {"scale": "{s}", "run": "runs['{s}']", "list": [1, {"x": "{s}"}], "other": "{q}"}
    assert substitute(template, {"s": "2"}) == {
        "scale": 2,
        "run": "runs['2']",
        "list": [1, {"x": 2}],
        "other": "{q}",
    }
