"""Registries: families (a class and its configuration) and their published variants."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from limner.core.errors import ConfigError, LimnerError, unknown

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Family:
    """A class that can be built from a configuration.

    Args:
        name: as written in config.json and recipes.
        build: the class; called with one configuration.
        config: its frozen dataclass.
    """

    name: str
    build: Callable[[Any], Any]
    config: type


@dataclass(frozen=True)
class Variant:
    """A published configuration of a family.

    Args:
        name: the published name, in lower case with dashes.
        family: name of the family.
        config: the configuration.
        published: parameter count as published ("111M", "1.4B") or counted (an int); None: unknown.
    """

    name: str
    family: str
    config: Any
    published: str | int | None = None


class Registry:
    """All families and variants of one kind; modules register themselves when imported.

    Args:
        kind: "model", "tokenizer", ...
        package: whose modules are imported when a name is first looked up.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._families: dict[str, Family] = {}
        self._variants: dict[str, Variant] = {}
        self._loaded = False

    def family(self, name: str, config: type) -> Callable[[T], T]:
        """Register a class under a family name.

        Raises:
            ConfigError: the name is taken by another class.
        """

        def register(build: T) -> T:
            known = self._families.get(name)
            if known is not None and known.build.__qualname__ != build.__qualname__:
                raise ConfigError(f"{self.kind} family {name!r} is registered already")
            self._families[name] = Family(name, build, config)
            return build

        return register

    def variant(
        self, name: str, family: str, config: Any, published: str | int | None = None
    ) -> None:
        """Register a published configuration."""
        self._variants[name] = Variant(name, family, config, published)

    def variants(self) -> list[Variant]:
        """Return all variants, by name."""
        self._load()
        return [self._variants[name] for name in sorted(self._variants)]

    def families(self) -> list[Family]:
        """Return all families, by name."""
        self._load()
        return [self._families[name] for name in sorted(self._families)]

    def get_family(self, name: str) -> Family:
        """Return a family by name.

        Raises:
            ConfigError: no such family; names the nearest.
        """
        self._load()
        if name not in self._families:
            raise unknown(f"{self.kind} family", name, self._families)
        return self._families[name]

    def get_variant(self, name: str) -> Variant:
        """Return a variant by name.

        Raises:
            ConfigError: no such variant; names the nearest.
        """
        self._load()
        if name not in self._variants:
            raise unknown(self.kind, name, self._variants)
        return self._variants[name]

    def create(self, name: str) -> Any:
        """Build a variant with fresh weights."""
        variant = self.get_variant(name)
        return self.get_family(variant.family).build(variant.config)

    def family_of(self, part: object) -> Family:
        """Return the family that an object was built by."""
        self._load()
        for family in self._families.values():
            if family.build is type(part):
                return family
        raise ConfigError(f"{type(part).__name__} is not a registered {self.kind}")

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(package.__path__, self.package + "."):
            importlib.import_module(module.name)


MODELS = Registry("model", "limner.models")
TOKENIZERS = Registry("tokenizer", "limner.tokenizers")


def load_plugin(path: str) -> None:
    """Import a user's file so that what it registers can be used by name.

    Raises:
        LimnerError: the file is missing or cannot be imported.
    """
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        raise LimnerError(f"plugin={path!r} is not accepted: plugin must be a Python file")
    name = f"limner_plugin_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except LimnerError:
        raise
    except Exception as error:
        raise LimnerError(f"plugin {path!r} failed: {type(error).__name__}: {error}") from error


def load_entry_points() -> None:
    """Import every installed package that announces itself as a `limner.plugins` entry point.

    Raises:
        LimnerError: one cannot be imported.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group="limner.plugins"):
        try:
            point.load()
        except LimnerError:
            raise
        except Exception as error:
            text = f"plugin {point.name!r} ({point.value}) failed: {type(error).__name__}: {error}"
            raise LimnerError(text) from error
