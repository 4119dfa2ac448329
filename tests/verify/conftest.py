"""Cases made for a test, and a replay that reproduces them."""

import json

import pytest
import torch
from safetensors.torch import save_file

from limner.verify import registry


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small are several times faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_case(tmp_path):
    """Return a function that writes a case of a made-up system and returns its folder."""

    def make(tensors, *, folder="case", **fields):
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        config = {
            "system": "toy",
            "case": "double",
            "hyper": {},
            "io": dict.fromkeys(tensors, ""),
            "inputs": ["x"],
            **fields,
        }
        (path / "config.json").write_text(json.dumps(config))
        save_file(tensors, path / "io.safetensors")
        return path

    return make


@pytest.fixture
def doubling(monkeypatch):
    """Register a replay for toy/double: y = 2 x."""

    def double(case):
        case.check("y", 2 * case.input("x"))

    monkeypatch.setitem(registry._REPLAYS, "toy/double", double)


@pytest.fixture
def doubled():
    x = torch.arange(4.0)
    return {"x": x, "y": 2 * x}
