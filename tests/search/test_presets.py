from __future__ import annotations

import pytest

from fastglt.errors import BudgetError, InputError, UnknownNameError
from fastglt.search import METHODS
from fastglt.search.presets import PRESETS, own_defaults, resolve_settings
from fastglt.settings import Settings


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_method_has_valid_defaults_in_every_preset(method, preset):
    settings = resolve_settings({"method": method, "preset": preset})
    own = {"method": method, "preset": preset, **own_defaults(method, preset)}
    assert settings == Settings(**own)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"teacher": "dense", "allocation": "erk", "fixed_epochs": 0}),
        ({"preset": "paper"}, {"teacher": "none", "allocation": "uniform", "patience": 0}),
        (
            {"method": "ugs"},
            {"teacher": "none", "allocation": "global", "edge_l1": 0.01, "fixed_epochs": 0},
        ),
        (
            {"method": "ugs", "preset": "paper"},
            {"allocation": "global", "edge_l1": 0.01, "fixed_epochs": 200, "patience": 0},
        ),
        ({"method": "wd-glt"}, {"edge_l1": 0.0, "weight_l1": 0.0}),
        ({"method": "early-bird"}, {"mask_epochs": 100, "teacher": "none"}),
        ({"method": "teddy", "preset": "paper"}, {"teacher": "dense", "teacher_weight": 1 / 11}),
        ({"method": "dspar"}, {"teacher": "none"}),
    ],
)
def test_a_methods_own_defaults_win_over_those_of_the_preset(given, expected):
    settings = resolve_settings(given)
    assert {name: getattr(settings, name) for name in expected} == expected


def test_given_settings_win():
    given = {
        "method": "ugs",
        "preset": "paper",
        "teacher": "dense",
        "fixed_epochs": 7,
        "edge_l1": 0,
    }
    settings = resolve_settings(given)
    assert (settings.teacher, settings.fixed_epochs, settings.edge_l1) == ("dense", 7, 0.0)


def test_defaults_cannot_be_changed_by_accident():
    own_defaults("ugs", "paper")["teacher"] = "changed"
    own_defaults("registered-elsewhere", "paper")["teacher"] = "changed"
    assert resolve_settings({"preset": "paper"}).teacher == "none"
    assert resolve_settings({"method": "ugs"}).teacher == "none"


def test_a_method_from_elsewhere_takes_the_presets_defaults():
    assert own_defaults("registered-elsewhere", "paper") == PRESETS["paper"]
    assert own_defaults("registered-elsewhere", "default") == {}


def test_unknown_names_and_impossible_values_are_refused():
    with pytest.raises(UnknownNameError, match="preset 'papper'; did you mean 'paper'"):
        resolve_settings({"preset": "papper"})
    with pytest.raises(UnknownNameError, match="setting 'mask_epoch'; did you mean 'mask_epochs'"):
        resolve_settings({"mask_epoch": 3})
    with pytest.raises(BudgetError, match=r"edge_sparsity must be in \[0, 1\) \(got 1.0\)"):
        resolve_settings({"edge_sparsity": 1.0})
    with pytest.raises(InputError, match="rounds"):
        resolve_settings({"method": "ugs", "rounds": 0})


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].prunes_weights])
def test_methods_for_edges_refuse_weights(method):
    with pytest.raises(BudgetError, match=rf"'{method}' is for edges only"):
        resolve_settings({"method": method, "weight_sparsity": 0.1})
