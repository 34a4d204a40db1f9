"""The sentences at the top say what the tests say, losses included."""

from __future__ import annotations

import pytest
from sample_cells import cell, study

from fastglt.report.provenance import settings
from fastglt.report.subjects import main_row, main_table, rows_in_order, subjects
from fastglt.report.verdicts import finding
from fastglt.study.cells import hash_of
from fastglt.study.statistics import Verdict


def found(cells, margin=0.5):
    (subject,) = subjects(cells, margin)
    return finding(subject, main_table(subject.tables))


def runs(label, loss, seeds=10, **changes):
    return [cell(label, seed=seed, loss=loss, details=False, **changes) for seed in range(seeds)]


@pytest.mark.parametrize(
    ("loss", "verdict", "says"),
    [
        (-0.5, Verdict.WINS, "wins against dense gcn"),
        (3.0, Verdict.LOSES, "loses against dense gcn"),
        (0.5, Verdict.INCONCLUSIVE, "is inconclusive against dense gcn"),
    ],
)
def test_the_headline_says_what_was_shown(loss, verdict, says):
    result = found(runs("fastglt", loss))
    assert result.verdict is verdict
    assert result.headline.startswith("On Cora, fastglt with 30 % of edges and 95 % of weights")
    assert says in result.headline
    assert "margin 0.5, 10 seeds" in result.headline


def test_a_loss_like_for_like_is_said_beside_a_win():
    result = found([*runs("fastglt", -0.5), *runs("dense + teacher", -3.0)])
    assert result.verdict is Verdict.WINS
    assert any(
        "dense trained with the same teacher, it loses" in sentence for sentence in result.sentences
    )


def test_a_control_that_wins_too_takes_the_merit():
    result = found([*runs("fastglt", -0.5), *runs("random", -0.4), *runs("small-dense", 4.0)])
    assert "not the method’s merit" in result.caveat
    assert "random masks at the same sparsity win too" in result.caveat
    assert "small dense" not in result.caveat
    assert found([*runs("fastglt", -0.5), *runs("random", 4.0)]).caveat == ""


def test_controls_that_were_not_run_are_named():
    sentences = " ".join(found([*runs("fastglt", 0.0), *runs("random", 4.0)]).sentences)
    assert "random masks at the same sparsity lose" in sentences
    _, _, missing = sentences.partition("Controls that were not run here: ")
    assert "fresh weights" in missing
    assert "small dense" in missing
    assert "random" not in missing
    assert "Like for like is unknown" in sentences


@pytest.mark.parametrize(("epochs", "says"), [(200, "like for like"), (150, "not like for like")])
def test_without_a_teacher_equal_epochs_are_like_for_like(epochs, says):
    cells = runs("fastglt", 0.0, seeds=3)
    for each in cells:
        each.spec["settings"].update(teacher="none", retrain_epochs=epochs)
    cells = [each.model_copy(update={"settings_hash": hash_of(each.spec)}) for each in cells]
    sentences = " ".join(found(cells).sentences)
    assert f"is {says}." in sentences
    assert "the dense model with the same teacher" not in sentences


def test_one_seed_shows_nothing():
    result = found(runs("fastglt", -5.0, seeds=1))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert any("One seed shows nothing" in sentence for sentence in result.sentences)


def test_fine_tuning_finds_no_lottery_ticket():
    cells = runs("fastglt", -0.5)
    for each in cells:
        each.spec["settings"]["recover"] = "finetune"
    assert any("no lottery ticket" in sentence for sentence in found(cells).sentences)


def test_the_details_are_of_the_sparsest_budget_that_wins():
    cells = [
        *runs("fastglt", -0.5, weight_sparsity=0.9),
        *runs("fastglt", -0.4, weight_sparsity=0.95),
        *runs("fastglt", 5.0, weight_sparsity=0.98),
    ]
    (subject,) = subjects(cells, 0.5)
    assert main_table(subject.tables).weight_sparsity == 0.95
    assert "95 % of weights removed wins" in found(cells).headline


def test_a_budget_that_wins_only_because_many_were_tried_is_not_the_headline():
    clear, close = runs("fastglt", -0.5, weight_sparsity=0.9), []
    for each, loss in zip(
        runs("fastglt", 0.0, weight_sparsity=0.95),
        (-0.7, 0.8, -0.6, 0.7, -0.5, 0.8, -0.6, 0.7, -0.7, 0.6),
        strict=True,
    ):
        close.append(each.model_copy(update={"test_ticket": each.test_dense - loss / 100}))
    (subject,) = subjects([*clear, *close], 0.5)
    sparsest = subject.tables[-1]
    assert main_row(sparsest).versus_dense.verdict is Verdict.WINS
    assert main_table(subject.tables) is sparsest
    (subject,) = subjects(
        [*clear, *close, *runs("fastglt", 5.0, weight_sparsity=0.97),
         *runs("fastglt", 5.0, weight_sparsity=0.98)], 0.5,
    )  # fmt: skip
    assert main_table(subject.tables).weight_sparsity == 0.9


def test_an_unfinished_study_has_no_verdict():
    (subject,) = subjects(runs("fastglt", -5.0, seeds=4), 0.5, looks=(10,))
    result = finding(subject, main_table(subject.tables))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "This study is not finished" in result.sentences[0]


def test_subjects_and_rows_do_not_depend_on_the_order_of_cells():
    cells = study(seeds=2, details=False)
    assert subjects(cells, 0.5) == subjects(cells[::-1], 0.5)
    (subject,) = subjects(cells, 0.5)
    assert subject.labels[0] == "fastglt"
    assert set(subject.labels[-4:]) == {"random", "reinit", "small-dense", "dense + teacher"}


def test_runs_of_one_label_and_other_settings_stand_apart():
    cells = runs("fastglt", 0.0, seeds=3)
    others = runs("fastglt", 0.0, seeds=3)
    for each in others:
        each.spec["settings"]["alpha"] = 0.2
    others = [each.model_copy(update={"settings_hash": hash_of(each.spec)}) for each in others]
    (subject,) = subjects([*cells, *others], 0.5)
    assert len(subject.labels) == 2
    assert subject.labels == tuple(row.label for row in rows_in_order(subject.tables[0]))
    different = {row.name: row.values for row in settings(subject.groups).different}
    assert sorted(different["alpha"]) == ["0.2", "0.3"]
