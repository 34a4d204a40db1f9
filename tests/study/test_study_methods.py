"""Methods as people name them, and the dense controls that their teachers call for."""

from __future__ import annotations

import pytest

from fastglt.errors import BudgetError, InputError, UnknownNameError
from fastglt.search import METHODS
from fastglt.search.presets import resolve_settings
from fastglt.settings import Settings
from fastglt.study.methods import GUIDANCE, LIKE, SEARCH, choices

GIVEN = {"edge_sparsity": 0.2}


def labels(*names, **given):
    return [choice.label for choice in choices(names, GIVEN | given)]


def test_labels_and_settings():
    (fast, ugs, paper, control) = choices(["fastglt", " ugs ", "ugs:paper"], GIVEN | {"lr": 0.02})
    assert [fast.label, ugs.label, paper.label] == ["fastglt", "ugs", "ugs (paper)"]
    assert control.label == "dense + teacher"
    for choice, method, preset in ((fast, "fastglt", "default"), (paper, "ugs", "paper")):
        expected = {**GIVEN, "lr": 0.02, "method": method, "preset": preset}
        assert choice.settings == resolve_settings(expected)


def test_a_given_preset_is_that_of_methods_without_one():
    assert labels("fastglt", "ugs:default", preset="paper") == ["fastglt (paper)", "ugs"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_control_if_and_only_if_it_is_guided(method):
    chosen = choices([method], GIVEN)
    guided = chosen[0].settings.teacher != "none"
    assert len(chosen) == 1 + (guided and method != "dense")
    if guided:
        control = chosen[-1].settings
        assert control.method == "dense"
        assert [getattr(control, name) for name in GUIDANCE] == [
            getattr(chosen[0].settings, name) for name in GUIDANCE
        ]


def test_one_control_for_each_way_of_listening_to_the_teacher():
    assert labels("fastglt", "one-shot", "random") == [
        "fastglt", "one-shot", "random", "dense + teacher"
    ]  # fmt: skip
    assert labels("fastglt", "teddy") == [
        "fastglt", "teddy", "dense + teacher", "dense + teacher (weight 0.091)"
    ]  # fmt: skip
    assert labels("dense", "fastglt") == ["dense + teacher", "fastglt"]


def test_without_a_teacher_there_is_no_control():
    assert labels("fastglt", "random", teacher="none") == ["fastglt", "random"]
    assert labels("dense", teacher="none") == ["dense"]
    assert labels("ugs", "fastglt:paper") == ["ugs", "fastglt (paper)"]


@pytest.mark.parametrize("names", [["ugs", "ugs"], ["ugs", "fastglt", "ugs:default"]])
def test_a_method_that_is_named_twice(names):
    with pytest.raises(InputError, match="method 'ugs' is named twice"):
        choices(names, GIVEN)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fastgl", "unknown method 'fastgl'; did you mean 'fastglt'"),
        ("", "unknown method ''"),
        ("UGS", "unknown method 'UGS'; did you mean 'ugs'"),
        ("ugs:papers", "unknown preset 'papers'; did you mean 'paper'"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(UnknownNameError, match=message):
        choices([name], GIVEN)


def test_a_budget_that_a_method_cannot_reach():
    with pytest.raises(BudgetError, match="'dspar' is for edges only"):
        choices(["fastglt", "dspar"], {"weight_sparsity": 0.5})


def test_a_control_is_trained_as_long_as_what_it_is_compared_with():
    both = choices(["fastglt", "fastglt:paper"], GIVEN | {"teacher": "dense"})
    assert [choice.label for choice in both[2:]] == ["dense + teacher", "dense + teacher (paper)"]
    for method, control in zip(both[:2], both[2:], strict=True):
        assert [getattr(control.settings, name) for name in LIKE] == [
            getattr(method.settings, name) for name in LIKE
        ]


def test_a_control_is_the_same_run_whatever_the_search_is_told():
    plain = choices(["fastglt"], GIVEN)[-1]
    told = choices(["fastglt"], GIVEN | {"alpha": 0.3, "interval": 3, "edge_score": "unit-gate"})
    assert told[-1] == plain
    assert choices(["fastglt"], GIVEN | {"lr": 0.02})[-1] != plain
    assert set(SEARCH) < set(Settings.model_fields)
