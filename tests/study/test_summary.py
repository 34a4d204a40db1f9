"""Tables of a study, against figures computed by hand."""

from __future__ import annotations

import made_up
import numpy as np
import pytest
from scipy import stats

from fastglt.study.statistics import Verdict, rejected, verdict
from fastglt.study.summary import is_teacher_control, tables

DENSE = (0.80, 0.82, 0.81)


def method_cells(method, losses, *, dense=DENSE, **changes):
    return [
        made_up.cell(method, seed, dense=reference, ticket=reference - loss / 100, **changes)
        for seed, (reference, loss) in enumerate(zip(dense, losses, strict=True))
    ]


def guided(weight):
    return {"teacher": "dense", "teacher_weight": weight}


def test_a_table_by_hand():
    cells = method_cells("fastglt", (1, 2, 3), seconds=4.0, settings={"edge_sparsity": 0.3})
    (table,) = tables(cells, margin=0.5)
    assert (table.title, table.model, table.metric, table.margin) == (
        "Cora",
        "gcn",
        "accuracy",
        0.5,
    )
    assert (table.edge_sparsity, table.weight_sparsity) == (0.3, 0.0)
    (row,) = table.rows
    assert table.row("fastglt") is row
    assert table.row("ugs") is None
    assert table.dense.mean == pytest.approx(81)
    assert table.dense.half_width == pytest.approx(4.302653 / 3**0.5)
    assert row.test.mean == pytest.approx(79)
    assert row.versus_dense.test.difference.mean == pytest.approx(-2)
    assert row.versus_dense.test.lower_bound == pytest.approx(-2 - 2.919986 / 3**0.5)
    assert (row.search_seconds, row.search_epochs, row.median("macs_ticket")) == (5.0, 15.0, 50.0)
    assert row.cost_ratio is None


def test_pairs_are_of_the_same_seed_and_split_whatever_the_order():
    cells = [
        made_up.cell(seed=seed, split_seed=split, dense=0.5 + 0.1 * split, ticket=0.5 + 0.1 * split)
        for seed in range(2)
        for split in range(3)
    ]
    for order in (cells, cells[::-1]):
        (table,) = tables(order)
        difference = table.rows[0].versus_dense.test.difference
        assert (difference.num, difference.mean) == (6, 0.0)


def test_like_for_like_is_against_the_dense_model_with_the_same_teacher_weight():
    cells = [
        *method_cells("fastglt", (1, 1.1, 0.9), settings=guided(0.7)),
        *method_cells("teddy", (1, 1.1, 0.9), settings=guided(0.1)),
        *method_cells("one-shot", (1, 1.1, 0.9), settings=guided(0.3)),
        *method_cells("ugs", (1, 1.1, 0.9), settings={"teacher": "none"}),
        *method_cells("dense", (-2, -2, -2), label="dense + 0.7", settings=guided(0.7)),
        *method_cells("dense", (0.5, 0.5, 0.5), label="dense + 0.1", settings=guided(0.1)),
    ]
    (table,) = tables(cells)
    differences = {
        row.label: row.versus_like and row.versus_like.test.difference.mean for row in table.rows
    }
    assert differences.pop("fastglt") == pytest.approx(-3)
    assert differences.pop("teddy") == pytest.approx(-0.5)
    assert differences.pop("ugs") == pytest.approx(-1), "without a teacher, plain dense is like it"
    assert differences == {"one-shot": None, "dense + 0.7": None, "dense + 0.1": None}
    assert [is_teacher_control(row.cells[0]) for row in table.rows] == [False] * 4 + [True] * 2


def test_only_seeds_that_both_have_are_compared():
    cells = method_cells("fastglt", (1, 2, 3), settings=guided(0.7))
    cells += method_cells("dense", (0, 0, 0), label="control", settings=guided(0.7))[1:]
    (table,) = tables(cells)
    compared = table.row("fastglt").versus_like.test.difference
    assert (compared.num, compared.mean) == (2, pytest.approx(-2.5))


def test_verdicts_are_corrected_for_the_rows_of_their_table():
    rng = np.random.default_rng(2)
    cells, tests = [], {}
    for edge_sparsity in (0.1, 0.2):
        for index, shift in enumerate((0.0, 0.15, 2.0)):
            losses = list(rng.normal(shift, 0.6, 10))
            test = [stats.ttest_1samp(-np.array(losses), -0.5, alternative=side).pvalue
                    for side in ("greater", "less")]  # fmt: skip
            tests.setdefault(edge_sparsity, []).append(test)
            cells += method_cells(
                "one-shot", losses, dense=[0.8] * 10, label=f"m{index}",
                settings={"edge_sparsity": edge_sparsity, "teacher": "none"},
            )  # fmt: skip
    for looks in ((10,), (10, 20, 30)):
        for table in tables(cells, 0.5, looks):
            p_win, p_lose = zip(*tests[table.edge_sparsity], strict=True)
            expected = [
                verdict(win, lose)
                for win, lose in zip(rejected(p_win, looks), rejected(p_lose, looks), strict=True)
            ]
            assert [row.versus_dense.verdict for row in table.rows] == expected
            assert [row.versus_like.verdict for row in table.rows] == expected


def test_the_cost_ratio_is_taken_seed_by_seed():
    cells = [
        made_up.cell("ugs", seed, seconds=cost, settings={"teacher": "none"})
        for seed, cost in enumerate((9.0, 19.0, 29.0))
    ]
    cells += [made_up.cell("fastglt", seed, seconds=cost) for seed, cost in enumerate((4, 1, 0))]
    (table,) = tables(cells)
    # (1 + search of ugs) / (1 + search): 10/5, 20/2, 30/1.
    assert table.row("fastglt").cost_ratio == pytest.approx(10)
    assert table.row("ugs").cost_ratio == 1


def test_search_cells_are_left_out():
    searched = made_up.cell(stage="search", dense=None, ticket=None)
    assert tables([searched]) == []
    (table,) = tables([searched, made_up.cell(stage="confirm", seed=5)])
    assert [cell.seed for row in table.rows for cell in row.cells] == [5]


def test_without_test_metrics_nothing_is_compared():
    (table,) = tables([made_up.cell(dense=None, ticket=None)])
    (row,) = table.rows
    assert (table.dense, row.test, row.versus_dense, row.versus_like) == (None,) * 4


def test_tables_are_apart_by_graph_model_and_budget():
    cells = [
        made_up.cell(),
        made_up.cell(settings={"edge_sparsity": 0.1}),
        made_up.cell(settings={"weight_sparsity": 0.1}),
        made_up.cell(spec=made_up.spec() | {"dataset": {"name": "citeseer"}}),
        made_up.cell(spec=made_up.spec() | {"model_config": {"name": "gat"}}),
        made_up.cell("ugs"),
    ]
    assert [len(table.rows) for table in tables(cells)] == [2, 1, 1, 1, 1]


def test_runs_with_other_settings_are_not_further_seeds_of_the_same_row():
    cells = [made_up.cell(settings={"alpha": alpha}) for alpha in (0.1, 0.2)]
    (table,) = tables(cells)
    assert [row.versus_dense.test.difference.num for row in table.rows] == [1, 1]
    assert [row.label for row in table.rows] == ["fastglt [alpha 0.1]", "fastglt [alpha 0.2]"]


def test_a_method_is_called_the_same_at_every_budget():
    first = [made_up.cell(settings={"alpha": 0.1, "weight_sparsity": s}) for s in (0.5, 0.7)]
    cells = [*first, made_up.cell(settings={"alpha": 0.2, "weight_sparsity": 0.5})]
    half, more = tables(cells)
    assert [row.label for row in half.rows] == ["fastglt [alpha 0.1]", "fastglt [alpha 0.2]"]
    assert [row.label for row in more.rows] == ["fastglt [alpha 0.1]"]


def test_runs_that_saw_less_of_the_graph_are_a_table_of_their_own():
    cells = [made_up.cell(settings={"inductive": inductive}) for inductive in (False, True)]
    titles = [table.title for table in tables(cells)]
    assert titles == ["Cora [inductive false]", "Cora [inductive true]"]


def test_costs_are_compared_with_ugs_of_any_preset_its_own_last():
    paper = made_up.cell("ugs", label="ugs (paper)", preset="paper", seconds=19)
    for ugs, ratio in (([paper], 10), ([paper, made_up.cell("ugs", seconds=5)], 3)):
        (table,) = tables([*ugs, made_up.cell(seconds=1)])
        assert table.row("fastglt").cost_ratio == pytest.approx(ratio)


def test_dense_models_that_were_trained_otherwise_have_a_table_of_their_own():
    found = tables([made_up.cell(settings={"lr": lr}) for lr in (0.01, 0.02)])
    assert [len(table.rows) for table in found] == [1, 1]
    assert [table.title for table in found] == ["Cora [lr 0.01]", "Cora [lr 0.02]"]


@pytest.mark.parametrize(
    ("seeds", "looks", "is_due"),
    [(3, None, True), (3, (3,), True), (3, (2, 3), True), (3, (10,), False), (3, (2, 4), False)],
)
def test_nothing_is_decided_at_a_number_of_seeds_that_was_not_declared(seeds, looks, is_due):
    losses = [-2 + 0.01 * seed for seed in range(seeds)]
    cells = method_cells("ugs", losses, dense=DENSE[:seeds], settings={"teacher": "none"})
    (table,) = tables(cells, 0.5, looks)
    compared = table.rows[0].versus_dense
    assert table.looks == looks
    assert compared.is_due is is_due
    assert compared.verdict is (Verdict.WINS if is_due else Verdict.INCONCLUSIVE)


def test_a_seed_that_was_run_in_two_stages_counts_once():
    (table,) = tables([made_up.cell(), made_up.cell(stage="confirm")])
    assert table.rows[0].versus_dense.test.difference.num == 1
