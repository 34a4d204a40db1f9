"""``fastglt compare``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fastglt.cli.cells import StudyInputs
from fastglt.cli.config_file import with_config
from fastglt.cli.options import (
    COMPARE_SPECS,
    CompareOptions,
    FrontierOptions,
    option_names,
    validated,
)
from fastglt.cli.output import STDOUT, Output, write_json
from fastglt.cli.study import as_json, check_study, finished, print_tables
from fastglt.models import is_own_model
from fastglt.study.cells import Cell, Stage
from fastglt.study.methods import Choice, choices
from fastglt.study.plan import Plan
from fastglt.study.statistics import Verdict, looks_up_to
from fastglt.study.summary import Table, tables

CONTROLS = ("random", "reinit", "small-dense")
"""What is compared with ``fastglt`` unless methods are named."""


def run(given: Mapping[str, Any]) -> None:
    """Compare search methods over seeds: accuracy, verdicts with a margin, and costs."""
    values = with_config(given, option_names(*COMPARE_SPECS))
    options = validated(CompareOptions, values)
    inputs = StudyInputs.of(values)
    chosen = choices(_methods(options, inputs), inputs.settings)
    last = options.seeds if options.max_seeds is None else max(options.seeds, options.max_seeds)
    plan = Plan(margin=options.margin, looks=looks_up_to(options.seeds, last))
    check_study(options)
    inputs.check()
    plan.save(options.out)
    found = sequential_tables(inputs, options, plan, chosen, "compare")
    to_stdout = options.json_file == STDOUT
    if options.json_file is not None:
        write_json(as_json(found), options.json_file)
    print_tables(found, Output(sys.stderr if to_stdout else None))


def sequential_tables(
    inputs: StudyInputs,
    options: CompareOptions | FrontierOptions,
    plan: Plan,
    chosen: Sequence[Choice],
    stage: Stage,
) -> list[Table]:
    """Run the methods, those that stay undecided with more seeds at each look of the plan.

    Args:
        inputs: What all runs share.
        options: Folder, first seed, workers.
        plan: Margin and looks.
        chosen: The methods.
        stage: What the cells are for.
    """
    cells: list[Cell] = []
    active, done = list(chosen), 0
    found: list[Table] = []
    for look in plan.looks:
        seeds = range(options.first_seed + done, options.first_seed + look)
        cells += finished(options, inputs.jobs(stage, active, seeds))
        found = tables(cells, plan.margin, plan.level)
        done = look
        active = _undecided(chosen, found)
        if not active:
            break
    return found


def _undecided(chosen: Sequence[Choice], found: Sequence[Table]) -> list[Choice]:
    """Methods without a verdict against the dense model, and the dense models beside them."""
    open_labels = {
        row.label
        for table in found
        for row in table.rows
        if row.versus_dense is not None
        and row.versus_dense.verdict is Verdict.INCONCLUSIVE
        and row.cells[0].method != "dense"
    }
    if not open_labels:
        return []
    return [
        choice
        for choice in chosen
        if choice.label in open_labels or choice.settings.method == "dense"
    ]


def _methods(options: CompareOptions, inputs: StudyInputs) -> list[str]:
    if options.methods is not None:
        return [name.strip() for name in options.methods.split(",")]
    own = is_own_model(inputs.model.model)
    return ["fastglt", *(name for name in CONTROLS if not (own and name == "small-dense"))]
