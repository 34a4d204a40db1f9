"""The methods of a study, as people name them, and the control that their teacher calls for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastglt.errors import InputError, UnknownNameError
from fastglt.search import METHODS
from fastglt.search.presets import resolve_settings
from fastglt.settings import DenoiseConfig, Settings

GUIDANCE = (
    "teacher", "teacher_phases", "teacher_weight", "teacher_temperature", "teacher_propagation",
    "teacher_decay", "teacher_features", "teacher_schedule",
)  # fmt: skip
"""Settings that say how a teacher is listened to."""

LIKE = (*GUIDANCE, "retrain_epochs", "patience", "lr", "weight_decay", "edge_values")
"""Settings that are the same in a comparison like for like."""

DENSE = ("dense_epochs", "lr", "weight_decay", "inductive", "holdout")
"""Settings that a dense model is trained by, whatever the method and its preset."""

SEARCH = (
    *(name for name in DenoiseConfig.model_fields if name not in ("include", "exclude")),
    "pretrain_epochs", "denoise_steps", "denoise_patience", "recalibrate", "lr_power",
    "decay_power", "dropout_power", "edge_score", "edge_l1", "weight_l1",
    "mask_epochs", "fixed_epochs", "rounds", "edge_rate", "weight_rate", "mask_distance",
    "wasserstein_weight", "edge_diversity", "edge_rule",
)  # fmt: skip
"""Settings that only a search goes by."""


@dataclass(frozen=True)
class Choice:
    """One method of a study.

    Attributes:
        label: What tables call it.
        settings: All settings; the seed is of no account.
    """

    label: str
    settings: Settings


def choices(names: Sequence[str], given: Mapping[str, Any]) -> list[Choice]:
    """The methods that are named, and dense models under the same teachers.

    Args:
        names: Methods as ``"ugs"``, or ``"ugs:paper"`` for another preset than the given one.
        given: Settings for all of them.

    Raises:
        UnknownNameError: If there is no such method or preset.
        InputError: If a method is named twice, or settings cannot be used.
    """
    result = [_choice(name, given) for name in names]
    labels = [choice.label for choice in result]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"method {label!r} is named twice")
    return result + _teacher_controls(result, given)


def _choice(name: str, given: Mapping[str, Any]) -> Choice:
    method, _, preset = name.strip().partition(":")
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    chosen = {**given, "method": method} | ({"preset": preset} if preset else {})
    settings = resolve_settings(chosen)
    return Choice(_label(settings), settings)


def _label(settings: Settings) -> str:
    label = settings.method
    if label == "dense" and settings.teacher != "none":
        label = "dense + teacher"
    return label if settings.preset == "default" else f"{label} ({settings.preset})"


def _teacher_controls(chosen: Sequence[Choice], given: Mapping[str, Any]) -> list[Choice]:
    """A dense model for every way in which a method is guided and no dense model is yet.

    It is told only what it goes by, so that it is the same run whatever the search is told.
    """
    controls: list[Choice] = []
    guided = [choice for choice in chosen if choice.settings.teacher != "none"]
    told = {name: value for name, value in given.items() if name not in SEARCH}
    for choice in guided:
        there = [*guided, *controls]
        wanted = _alike(choice.settings)
        if wanted in [_alike(one.settings) for one in there if one.settings.method == "dense"]:
            continue
        guidance = {name: wanted[name] for name in GUIDANCE}
        settings = resolve_settings(
            {**told, "preset": choice.settings.preset, "method": "dense"} | guidance
        )
        label = _label(settings)
        if label in [one.label for one in there]:
            weight = settings.teacher_weight
            label += " (weight by labels)" if weight is None else f" (weight {weight:.2g})"
        controls.append(Choice(label, settings))
    return controls


def _alike(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in LIKE}
