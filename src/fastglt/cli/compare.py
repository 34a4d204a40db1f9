"""``fastglt compare``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fastglt.cli.cells import StudyInputs
from fastglt.cli.config_file import with_config
from fastglt.cli.options import (
    CHOSEN_BY_STUDY,
    COMPARE_SPECS,
    CompareOptions,
    FrontierOptions,
    option_names,
    validated,
)
from fastglt.cli.output import STDOUT, Output, write_json
from fastglt.cli.study import (
    Outcome,
    as_json,
    check_study,
    engine_of,
    print_tables,
    run_all,
)
from fastglt.errors import InputError
from fastglt.models import is_own_model
from fastglt.study.cells import BUDGET, Cell, Stage
from fastglt.study.jobs import Done, Engine
from fastglt.study.methods import Choice, choices
from fastglt.study.plan import Plan
from fastglt.study.statistics import Verdict, looks_up_to
from fastglt.study.summary import Table, tables

CONTROLS = ("random", "reinit", "small-dense")
"""What is compared with ``fastglt`` unless methods are named."""


def run(given: Mapping[str, Any]) -> None:
    """Compare search methods over seeds: accuracy, verdicts with a margin, and costs."""
    known = [name for name in option_names(*COMPARE_SPECS) if name not in CHOSEN_BY_STUDY]
    values = with_config(given, known)
    options = validated(CompareOptions, values)
    inputs = StudyInputs.of(values)
    chosen = choices(_methods(options, inputs), inputs.settings)
    if not any(inputs.settings.get(name) for name in BUDGET):
        raise InputError("nothing is to be pruned: give --edge-sparsity, --weight-sparsity or both")
    check_study(options)
    with engine_of(options, inputs.data.device) as engine:
        inputs.check(here=options.ray is None)
        plan = declared_plan(options)
        found = sequential_tables(engine, inputs, options, plan, chosen, "compare")
    to_stdout = options.json_file == STDOUT
    if options.json_file is not None:
        write_json(as_json(found.tables), options.json_file)
    print_tables(found.tables, Output(sys.stderr if to_stdout else None))
    found.check()


def sequential_tables(
    engine: Engine,
    inputs: StudyInputs,
    options: CompareOptions | FrontierOptions,
    plan: Plan,
    chosen: Sequence[Choice],
    stage: Stage,
) -> Outcome:
    """Run the methods, those that stay undecided with more seeds at each look.

    Args:
        engine: Where they are run.
        inputs: What all runs share.
        options: Folder and seeds.
        plan: Margin and all looks that were declared of the study.
        chosen: The methods.
        stage: What the cells are for.
    """
    cells: list[Cell] = []
    failures: list[Done] = []
    seen = dict.fromkeys((choice.label for choice in chosen), 0)
    active, found = list(chosen), list[Table]()
    for look in looks_of(options):
        jobs = [
            job
            for choice in active
            for job in inputs.jobs(
                stage,
                [choice],
                range(options.first_seed + seen[choice.label], options.first_seed + look),
            )
        ]
        jobs.sort(key=lambda job: job.seed)  # so that early stops stay balanced
        seen |= {choice.label: look for choice in active}
        finished = run_all(engine, options, jobs)
        cells += finished.cells
        failures += finished.failures
        found = tables(cells, plan.margin, plan.looks)
        active = _undecided(chosen, found)
    return Outcome(found, failures)


def declared_plan(options: CompareOptions | FrontierOptions) -> Plan:
    """The plan of the study's folder, written down before anything is run."""
    plan = Plan(margin=options.margin, looks=looks_of(options), first_seed=options.first_seed)
    return plan.declared(options.out)


def looks_of(options: CompareOptions | FrontierOptions) -> tuple[int, ...]:
    """Number of seeds at each look that a command asks for."""
    return looks_up_to(options.seeds, max(options.seeds, options.max_seeds or 0))


def _undecided(chosen: Sequence[Choice], found: Sequence[Table]) -> list[Choice]:
    """Methods without a verdict against the dense model, and the dense models beside them."""
    undecided = {
        row.label
        for table in found
        for row in table.rows
        if row.versus_dense is not None
        and row.versus_dense.verdict is Verdict.INCONCLUSIVE
        and row.cells[0].method != "dense"
    }
    if not undecided:
        return []
    return [
        choice
        for choice in chosen
        if choice.label in undecided or choice.settings.method == "dense"
    ]


def _methods(options: CompareOptions, inputs: StudyInputs) -> list[str]:
    if options.methods is not None:
        return [name.strip() for name in options.methods.split(",")]
    own = is_own_model(inputs.model.model)
    return ["fastglt", *(name for name in CONTROLS if not (own and name == "small-dense"))]
