from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from fastglt.errors import BudgetError, InputError, UnknownNameError
from fastglt.search.presets import PRESETS, resolve_settings
from fastglt.settings import DenoiseConfig, Settings


def test_nothing_given_is_the_default_preset():
    assert resolve_settings({}) == Settings()
    assert resolve_settings({}).preset == "default"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_defaults_that_arguments_override(preset):
    plain = resolve_settings({"preset": preset})
    assert plain.preset == preset
    as_json = plain.model_dump(mode="json")
    assert {name: as_json[name] for name in PRESETS[preset]} == PRESETS[preset]
    changed = resolve_settings({"preset": preset, "alpha": 0.125, "teacher": "none"})
    assert (changed.alpha, changed.teacher) == (0.125, "none")
    differing = {n for n in Settings.model_fields if getattr(changed, n) != getattr(plain, n)}
    follows = {"edge_score"} if preset == "default" else set()
    assert differing <= {"alpha", "teacher"} | follows


def test_the_paper_preset_has_no_teacher_and_uniform_budgets():
    paper = resolve_settings({"preset": "paper"})
    assert (paper.teacher, paper.allocation) == ("none", "uniform")
    default = resolve_settings({})
    assert (default.teacher, default.allocation) == ("dense", "erk")


@pytest.mark.parametrize("name", ["edge_sparsity", "weight_sparsity"])
@pytest.mark.parametrize("bad", [-0.1, 1.0, 1.2, math.nan, math.inf, "much"])
def test_sparsities_out_of_range_name_setting_and_value(name, bad):
    with pytest.raises(BudgetError, match=rf"{name} must be in \[0, 1\) \(got {bad}\)"):
        resolve_settings({name: bad})


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("lr", 0),
        ("lr", -1.0),
        ("lr", math.nan),
        ("weight_decay", -1e-4),
        ("seed", -1),
        ("seed", 1.5),
        ("seed", 2**31),
        ("dense_epochs", 0),
        ("retrain_epochs", 0),
        ("pretrain_epochs", -1),
        ("denoise_steps", -1),
        ("patience", -1),
        ("interval", 0),
        ("accumulation", 0),
        ("alpha", 1.1),
        ("warmup_start", 0),
        ("warmup_events", -1),
        ("teacher", "maybe"),
        ("teacher_weight", 1.5),
        ("teacher_temperature", 0),
        ("allocation", "fair"),
        ("recover", "hope"),
        ("edge_score", "vibes"),
        ("edge_score", "degree+degree"),
        ("edge_score", "degree+"),
        ("edge_score", "trained-gate+degree"),
        ("edge_l1", -1),
        ("edge_values", "real"),
        ("edge_rule", "drop"),
        ("holdout", 0),
        ("holdout", 1.0),
        ("inductive", "perhaps"),
    ],
)
def test_other_values_out_of_range_name_setting_and_value(name, bad):
    with pytest.raises(InputError) as caught:
        resolve_settings({name: bad})
    assert str(caught.value).startswith(f"{name}: ")
    assert f"(got {bad!r})" in str(caught.value)


@pytest.mark.parametrize("name", ["include", "exclude"])
@pytest.mark.parametrize(
    "given", ["a.*, b.bias", ["a.*", "b.bias"], ("a.*", "b.bias"), " a.*,b.bias,"]
)
def test_patterns_are_a_list_or_a_string_with_commas(name, given):
    settings = resolve_settings({name: given})
    assert getattr(settings, name) == ("a.*", "b.bias")
    # Also after a ticket file, which has lists.
    assert resolve_settings(json.loads(settings.model_dump_json())) == settings


@pytest.mark.parametrize("bad", [3, [1], None])
def test_patterns_must_be_text(bad):
    with pytest.raises(InputError, match=r"^include"):
        resolve_settings({"include": bad})


def test_learned_edge_values_are_not_for_unseen_nodes():
    with pytest.raises(InputError, match=r"edge_values='learned' has no weight for the edges"):
        resolve_settings({"inductive": True, "edge_values": "learned"})


def test_unknown_presets_and_settings_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match=r"preset 'papper'; did you mean 'paper'"):
        resolve_settings({"preset": "papper"})
    with pytest.raises(UnknownNameError, match=r"setting 'denoise_step'; did you mean"):
        resolve_settings({"denoise_step": 3})


def test_contradictions_are_refused():
    with pytest.raises(InputError, match=r"accumulation must be at most interval \(got 9 > 5\)"):
        resolve_settings({"interval": 5, "accumulation": 9})
    with pytest.raises(InputError, match=r"warmup_start=0.5 needs warmup_events"):
        resolve_settings({"warmup_start": 0.5})
    assert resolve_settings({"warmup_start": 0.5, "warmup_events": 2}).warmup_events == 2


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        Settings().lr = 1.0


def test_settings_survive_a_round_trip():
    settings = resolve_settings({"preset": "paper", "edge_sparsity": 0.29, "seed": 7})
    assert resolve_settings(settings.model_dump()) == settings


@pytest.mark.parametrize("model", [DenoiseConfig, Settings])
def test_every_setting_is_described(model):
    for name, field in model.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


@pytest.mark.parametrize(("power", "expected"), [(0.0, 1e-3), (0.5, 1e-4), (1.0, 1e-5)])
def test_weight_decay_falls_with_the_share_of_weights_kept(power, expected):
    settings = resolve_settings({"weight_decay": 1e-3, "decay_power": power})
    assert settings.weight_decay_at(0.01) == pytest.approx(expected)
    assert settings.weight_decay_at(1.0) == 1e-3


@pytest.mark.parametrize(
    ("density", "labelled", "power", "expected"),
    [
        (1.0, 0.1, 1.0, 1e-4), (0.02, 0.1, 1.0, 2e-5), (0.5, 0.1, 1.0, 1e-4),
        (1.0, 0.01, 0.5, 1e-4), (1.0, 0.1, 0.0, 1e-3), (1.0, 1.0, 1.0, 1e-3),
    ],
)  # fmt: skip
def test_weight_decay_is_the_lower_of_two(density, labelled, power, expected):
    settings = resolve_settings({"weight_decay": 1e-3, "decay_power": 1, "teacher_decay": power})
    assert settings.weight_decay_at(density, labelled) == pytest.approx(expected)


@pytest.mark.parametrize(("power", "expected"), [(0.0, 1.0), (0.5, 0.1), (1.0, 0.01)])
def test_dropout_falls_with_the_share_of_weights_kept(power, expected):
    settings = resolve_settings({"dropout_power": power})
    assert settings.dropout_factor_at(0.01) == pytest.approx(expected)
    assert settings.dropout_factor_at(1.0) == 1.0


def test_the_learning_rate_rises_as_fewer_weights_are_kept():
    settings = resolve_settings({"lr": 0.03, "lr_power": 0.15})
    assert settings.lr_at(0.01) == pytest.approx(0.03 * 10**0.3)
    assert settings.lr_at(1.0) == 0.03


def test_what_edges_are_scored_by_follows_the_teacher_unless_it_is_said():
    assert resolve_settings({}).edge_score == "divergence"
    assert resolve_settings({"teacher": "none"}).edge_score == "divergence+agreement"
    told = resolve_settings({"teacher": "none", "edge_score": "divergence"})
    assert told.edge_score == "divergence"
    # Methods that never had a teacher do not go by it.
    assert resolve_settings({"teacher": "none", "method": "ugs"}).edge_score == "divergence"
    assert resolve_settings({"preset": "paper"}).edge_score == "trained-gate"
    assert Settings.model_validate_json(told.model_dump_json()) == told
