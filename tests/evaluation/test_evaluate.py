"""A result says what was measured with what, and comes back as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from limner.core.errors import DataError
from limner.evaluation.evaluate import Evaluated, evaluate, open_reference
from limner.evaluation.features import FeatureSpace
from limner.evaluation.page import save_evaluation
from limner.evaluation.pictures import Pictures
from limner.evaluation.resampling import Bootstrap
from limner.evaluation.result import find_result, read_result
from limner.metrics.frechet import fit_gaussian, frechet_distance
from limner.metrics.references import read_reference, write_reference

from .conftest import Held, look

BOOTSTRAP = Bootstrap(20)


def measured(real: Pictures, made: Pictures, space: FeatureSpace, **options: object) -> Evaluated:
    return evaluate(made, real, space, command="limner eval a b", bootstrap=BOOTSTRAP, **options)  # type: ignore[arg-type]


def test_everything_is_written_and_read_back(
    space: FeatureSpace, held: Callable[..., Held], tmp_path: Path
) -> None:
    found = measured(
        held(0, 90, "photos"), held(90, 160, "drawn"), space, other=held(160, 200, "others")
    )
    page = save_evaluation(found, tmp_path / "out")
    assert read_result(find_result(tmp_path / "out")) == found.result
    protocol = found.result.protocol
    assert (protocol.real.name, protocol.real.count, protocol.real.size) == ("photos", 90, (16, 16))
    assert (protocol.made.count, protocol.features, protocol.network) == (70, "simple", "of-simple")
    text = page.read_text(encoding="utf-8")
    shown = [number.title for number in found.result.numbers.values()]
    shown += [
        "limner eval a b",
        protocol.real.fingerprint[:12],
        "without TF32",
        "20 resamples",
        "seed 0",
    ]
    for part in shown:
        assert part in text
    assert text.count("<img") == 64 and text.count('class="chart"') == 6
    assert "FID" not in text
    assert read_reference(tmp_path / "out" / "pictures.npz").shape == (64, 16, 16, 3)


def test_statistics_with_and_without_pictures(
    space: FeatureSpace, held: Callable[..., Held], levels: Tensor, tmp_path: Path
) -> None:
    gaussian = fit_gaussian(look(levels[:90]).pooled)
    write_reference(tmp_path / "bare.npz", gaussian)
    write_reference(tmp_path / "full.npz", gaussian, pictures=levels[:30])
    write_reference(tmp_path / "pictures.npz", pictures=levels[:90])
    made = held(90, 160)
    bare, full, pictures = (
        evaluate(made, open_reference(tmp_path / f"{name}.npz"), space, bootstrap=BOOTSTRAP).result
        for name in ("bare", "full", "pictures")
    )
    distance = frechet_distance(gaussian, fit_gaussian(look(levels[90:160]).pooled))
    for result in (bare, full, pictures):
        assert result.numbers["frechet_distance"].value == pytest.approx(distance)
    assert list(bare.numbers) == ["frechet_distance"]
    assert "statistics without pictures" in bare.notes[0]
    assert bare.protocol.real.count is None
    assert full.numbers["precision"].settings["real"] == 30
    assert pictures.protocol.real.count == 90
    assert bare.protocol.real.fingerprint == full.protocol.real.fingerprint


def test_what_cannot_be_compared_is_refused_before_anything_is_read(
    space: FeatureSpace, held: Callable[..., Held], levels: Tensor, tmp_path: Path
) -> None:
    class Unread(Held):
        def batches(self, batch: int = 64):
            raise AssertionError("read")

    made = Unread(levels[:40])
    write_reference(tmp_path / "wide.npz", fit_gaussian(torch.randn(30, 20)))
    with pytest.raises(DataError, match=r"20 features, and the feature space 'simple' has 18: .*"):
        measured(open_reference(tmp_path / "wide.npz"), made, space)  # type: ignore[arg-type]
    gaussian = fit_gaussian(look(levels[:30]).pooled)
    write_reference(tmp_path / "small.npz", gaussian, pictures=levels[:30, :, :8, :8])
    with pytest.raises(DataError, match=r"8x8 pictures, and 16x16"):
        measured(open_reference(tmp_path / "small.npz"), made, space)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"8x16, and 16x16 ones"):
        measured(Unread(levels[:40, :, :8]), made, space)
    for sets in ((Unread(levels[:5]), made), (made, Unread(levels[:5]))):
        with pytest.raises(DataError, match="holds 5 pictures: at least 6 are needed"):
            measured(*sets, space)
    with pytest.raises(DataError, match="does not exist"):
        open_reference(tmp_path / "nowhere.npz")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda values: values.update(limner=9), "format 9"),
        (lambda values: values["numbers"].update(x={"title": "x"}), "value is missing"),
        (lambda values: values.pop("protocol"), "protocol is missing"),
    ],
)
def test_broken_results_are_named(
    space: FeatureSpace,
    held: Callable[..., Held],
    tmp_path: Path,
    change: Callable[[dict], object],
    expected: str,
) -> None:
    found = measured(held(0, 30), held(30, 60), space)
    file = tmp_path / "eval.json"
    found.result.save(file)
    values = json.loads(file.read_text(encoding="utf-8"))
    change(values)
    file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(DataError, match=expected):
        read_result(file)
    file.write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="no result of `limner eval`"):
        read_result(file)
    with pytest.raises(DataError, match=r"holds no result \(eval\.json\)"):
        find_result(tmp_path / "elsewhere")
