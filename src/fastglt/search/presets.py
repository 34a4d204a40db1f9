"""Defaults of the settings, by preset and by method.

Importing this module imports neither torch nor PyG.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fastglt.errors import BudgetError, UnknownNameError
from fastglt.search import METHODS
from fastglt.settings import NEUTRAL, UNTAUGHT, Settings, as_input_error

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # Yue et al., AAAI 2025, GCN: 30/400/200 epochs, no teacher, uniform budgets, trained gates.
    "paper": {
        **NEUTRAL,
        "allocation": "uniform",
        "pretrain_epochs": 30,
        "denoise_steps": 400,
        "retrain_epochs": 200,
        "patience": 0,
        "interval": 20,
        "alpha": 0.3,
        "teacher": "none",
        "edge_score": "trained-gate",
        "edge_l1": 1e-4,
        "edge_diversity": 0.1,
    },
}
"""Defaults by preset, as differences from :class:`Settings`."""


def own_defaults(method: str, preset: str) -> dict[str, Any]:
    """Defaults of a method under a preset, as differences from :class:`Settings`.

    Args:
        method: A name in :data:`fastglt.search.METHODS`; another one has none of its own, since a
            method can be registered from outside.
        preset: A name in :data:`PRESETS`.
    """
    entry = METHODS.get(method)
    if entry is None:
        return dict(PRESETS[preset])
    paper = entry.paper if preset == "paper" else {}
    return {**PRESETS[preset], **entry.defaults, **paper}


def resolve_settings(given: Mapping[str, Any]) -> Settings:
    """Fill in the defaults of preset and method and check every value.

    Args:
        given: Setting name to value; settings that are missing take their default.

    Raises:
        BudgetError: If a sparsity is not in ``[0, 1)``, or one that the method cannot reach.
        UnknownNameError: If there is no such setting or preset.
        InputError: If another value is out of range.
    """
    preset = str(given.get("preset", "default"))
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)
    for name in given:
        if name not in Settings.model_fields:
            raise UnknownNameError("setting", name, Settings.model_fields)
    method = str(given.get("method", Settings.model_fields["method"].default))
    own = own_defaults(method, preset)
    if given.get("teacher") == "none" and not {"teacher", "edge_score"} & own.keys():
        own["edge_score"] = UNTAUGHT
    try:
        settings = Settings(**{**own, **given})
    except ValidationError as error:
        raise as_input_error(error) from None
    _check_budgets(settings)
    return settings


def _check_budgets(settings: Settings) -> None:
    entry = METHODS.get(settings.method)
    if entry is not None and not entry.prunes_weights and settings.weight_sparsity > 0:
        raise BudgetError(
            f"method {settings.method!r} is for edges only, so weight_sparsity must be 0 (got "
            f"{settings.weight_sparsity})"
        )
    if entry is not None and entry.prunes_in_rounds and settings.weight_pattern != "none":
        raise BudgetError(
            f"method {settings.method!r} prunes in rounds, the first of which keep more than a "
            f"pattern allows, so weight_pattern must be 'none' (got {settings.weight_pattern!r})"
        )
