"""Recipes: what is trained, on which machine and how, as a TOML file that a person writes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator
from tenzo_hw.config import Config, preset

from . import datasets
from .datasets import Dataset
from .device import Device
from .formats import Formats
from .network import Network
from .settings import Hybrid, Settings
from .trainer import Trainer

Made = TypeVar("Made")


def _from_table(make: Callable[..., Made]) -> Callable[[Any], Any]:
    """A validator that makes the object of a TOML table and says what is wrong with it."""

    def validate(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        try:
            return make(value)
        except KeyError as error:
            raise ValueError(f"{error} is missing") from None
        except TypeError as error:
            # Python says "__init__() missing 1 required argument": the name is what a person needs.
            raise ValueError(str(error).partition("() ")[2] or str(error)) from None

    return validate


def _dataclass(kind: Callable[..., Made]) -> Callable[[Mapping[str, Any]], Made]:
    """A maker of this dataclass that names what it does not know and what there is."""
    names = list(signature(kind).parameters)

    def make(table: Mapping[str, Any]) -> Made:
        unknown = table.keys() - set(names)
        if unknown:
            raise ValueError(f"there is no {', '.join(sorted(unknown))}; allowed are {', '.join(names)}")
        return kind(**table)

    return make


def _machine(value: Any) -> Any:
    return preset(value) if isinstance(value, str) else value


Machine = Annotated[
    Config,
    BeforeValidator(_machine),
    BeforeValidator(_from_table(_dataclass(Config))),
    PlainSerializer(asdict),
]
Layers = Annotated[Network, BeforeValidator(_from_table(Network.from_dict)), PlainSerializer(Network.to_dict)]
Words = Annotated[Formats, BeforeValidator(_from_table(Formats.from_dict)), PlainSerializer(Formats.to_dict)]
How = Annotated[Settings, BeforeValidator(_from_table(_dataclass(Settings))), PlainSerializer(asdict)]


class Data(BaseModel):
    """Which samples."""

    model_config = ConfigDict(extra="forbid")

    name: str
    """``digits``, ``mnist``, ``fashion-mnist``, or the path of a CSV or NPZ file."""
    folder: Path | None = None
    """Where MNIST's files are."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of a file's samples that are kept for the test."""
    standardise: bool = False
    """Inputs of mean 0 and deviation 1, which train faster than those of one sign."""

    def load(self, seed: int) -> Dataset:
        """The samples; ``seed`` splits those that come in one piece."""
        dataset = datasets.load(self.name, self.folder, seed=seed, test_share=self.test_share)
        return dataset.standardised() if self.standardise else dataset


class Switch(BaseModel):
    """When a hybrid run goes from its coarse to its fine settings: at a step, or on a plateau of the loss."""

    model_config = ConfigDict(extra="forbid")

    step: int | None = None
    patience: int | None = None
    """Chunks of steps without a gain."""


class Recipe(BaseModel):
    """Everything that decides a run, down to its last bit."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    name: str
    machine: Machine
    """A preset's name, or a table of all values of a ``Config``."""
    dataset: Data
    network: Layers
    formats: Words | None = None
    """Binary points; left out: those of ``Formats.default``."""
    settings: How = Settings()
    fine: How | None = None
    """Settings of the fine phase of a hybrid run, whose coarse phase has ``settings``; ``switch`` says when."""
    switch: Switch | None = None
    batch: Annotated[int, Field(ge=1)] = 64
    steps: Annotated[int, Field(ge=1)] = 1000
    seed: Annotated[int, Field(ge=0)] = 0
    clock_mhz: Annotated[float, Field(gt=0)] = 100.0
    """Clock of the board whose step time is reported."""

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """The recipe in a TOML file. Raises ``ValueError`` in one line that names the value and what is allowed."""
        try:
            document = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise ValueError(f"there is no recipe {path}") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path} cannot be read as TOML: {error}") from None
        return cls.of(document, str(path))

    @classmethod
    def of(cls, document: Mapping[str, Any], source: str) -> Recipe:
        """The recipe of plain values, as ``model_dump`` gives them; ``source`` is named in errors."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{source}, {where or 'recipe'}: {_said(first)}") from None

    def changed(self, changes: Sequence[str]) -> Recipe:
        """The recipe with some values replaced, each given as ``table.name=value``, the value as TOML writes it.

        Raises ``ValueError`` when a change cannot be read or the recipe does not allow it.
        """
        document = self.model_dump(mode="json")
        for change in changes:
            key, equals, text = change.partition("=")
            *tables, name = key.strip().split(".")
            if not equals or not name:
                raise ValueError(f"{change!r} is no change of a recipe: give name=value, such as settings.rate=0.02")
            table = document
            for part in tables:
                if table.get(part) is None:
                    table[part] = {}
                table = table[part]
                if not isinstance(table, dict):
                    raise ValueError(f"{change!r} is no change of a recipe: {part} has no values of its own")
            table[name] = _toml_value(text)
        return Recipe.of(document, "the command line")

    def check(self, dataset: Dataset) -> None:
        """Raises ``ValueError`` when the samples are not what the network takes and gives."""
        network = self.network
        if dataset.x_train.shape[1] != network.inputs:
            raise ValueError(
                f"{dataset.name} has {dataset.x_train.shape[1]} inputs a sample, the network takes {network.inputs}"
            )
        if (network.loss == "cross_entropy") != bool(dataset.classes):
            wanted = "labels (integers)" if network.loss == "cross_entropy" else "values (no integers)"
            raise ValueError(f"loss {network.loss} needs targets that are {wanted}; those of {dataset.name} are not")
        outputs = dataset.classes or dataset.y_train.shape[1]
        if outputs > network.outputs or (not dataset.classes and outputs != network.outputs):
            raise ValueError(f"{dataset.name} needs {outputs} outputs, the network has {network.outputs}")

    @model_validator(mode="after")
    def _two_phases(self) -> Recipe:
        if (self.fine is None) != (self.switch is None):
            raise ValueError("a hybrid run needs both: [fine] with settings, and [switch] with step or patience")
        if self.fine is not None:
            self.phases()
        return self

    def phases(self) -> Settings | Hybrid:
        """How the network is trained."""
        if self.fine is None or self.switch is None:
            return self.settings
        return Hybrid(coarse=self.settings, fine=self.fine, step=self.switch.step, patience=self.switch.patience)

    def trainer(self, device: Device | None = None) -> Trainer:
        """A trainer of this recipe; without a device only to plan."""
        return Trainer(
            self.network,
            self.machine,
            self.phases(),
            self.formats,
            device,
            batch=self.batch,
            steps=self.steps,
            seed=self.seed,
        )


def _toml_value(text: str) -> Any:
    """The value of a TOML text; what is none is itself a text, so that names need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _said(error: Mapping[str, Any]) -> str:
    """What is wrong with a value, with what was given and what is allowed."""
    if error["type"] == "extra_forbidden":
        known = (Data if len(error["loc"]) > 1 else Recipe).model_fields
        return f"there is no such value; allowed are {', '.join(known)}"
    if error["type"] in ("value_error", "missing"):
        return error["msg"].removeprefix("Value error, ")
    return f"{error['msg']}; {error['input']!r} given"
