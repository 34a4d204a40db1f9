"""``fastglt frontier``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fastglt.cli import formats
from fastglt.cli.cells import StudyInputs
from fastglt.cli.compare import declared_plan, sequential_tables
from fastglt.cli.config_file import with_config
from fastglt.cli.options import FRONTIER_SPECS, FrontierOptions, option_names, validated
from fastglt.cli.output import STDOUT, Output, write_json
from fastglt.cli.study import (
    Outcome,
    as_json,
    check_study,
    engine_of,
    print_tables,
    run_all,
)
from fastglt.errors import BudgetError, InputError
from fastglt.search import METHODS
from fastglt.study.cells import BUDGET, read_cells
from fastglt.study.frontier import Probe, Search, search
from fastglt.study.jobs import Engine
from fastglt.study.methods import choices
from fastglt.study.plan import Plan
from fastglt.study.summary import POINTS, Table

SEARCH_SEED = 2**30
"""The first seed of the search; those of the confirmation are lower."""
CONTROL = "random"
"""What a confirmed sparsity is shown beside, next to the dense model under the same teacher."""
HEADER = ("edges removed", "weights removed", "validation - dense", "at least", "")


def run(given: Mapping[str, Any]) -> None:
    """Find the highest sparsity that still wins: searched on validation, confirmed once on test."""
    known = [name for name in option_names(*FRONTIER_SPECS) if name != "seed"]
    values = with_config(given, known)
    options = validated(FrontierOptions, values)
    _check_budgets(values)
    inputs = StudyInputs.of(values)
    method = str(values.get("method", "fastglt"))
    (choice, *_) = choices([method], inputs.settings)  # refuses what cannot be used
    axes = METHODS[method.partition(":")[0]].axes
    if options.axis not in axes:
        able = f"choose --axis {' or '.join(axes)}" if axes else "choose another method"
        raise InputError(f"method {method!r} prunes nothing on axis {options.axis}; {able}")
    _check_pattern(choice.settings.weight_pattern, options)
    if options.first_seed + max(options.seeds, options.max_seeds) > SEARCH_SEED:
        raise InputError(
            f"first_seed must leave all seeds below {SEARCH_SEED}, from which on they are those of "
            f"the search (got {options.first_seed})"
        )
    check_study(options)
    with engine_of(options, inputs.data.device) as engine:
        inputs.check(here=options.ray is None)
        plan = declared_plan(options)
        validation = _Validation(engine, inputs, options, method)
        found = search(options.axis, validation, options.margin, options.resolution)
        outcome = Outcome([], [])
        if found.best is not None:
            outcome = _confirm(engine, inputs, options, plan, method, found.best)
    if options.json_file is not None:
        write_json(_json(options, method, found, outcome.tables), options.json_file)
    output = Output(sys.stderr if options.json_file == STDOUT else None)
    output.table(HEADER, [_row(probe) for probe in found.probes], text=(4,))
    print_tables(outcome.tables, output)
    outcome.check()
    output.line()
    output.line(_sentence(method, found, outcome.tables))


def _check_pattern(pattern: str, options: FrontierOptions) -> None:
    if pattern == "none":
        return
    if options.axis == "edges":
        raise InputError(
            f"weight_pattern is for weights that are pruned (got {pattern!r} with axis edges)"
        )
    if ":" in pattern:
        raise InputError(
            f"a frontier also tries low sparsities, which weight_pattern={pattern!r} has no room "
            "for; compare chosen weight sparsities instead"
        )


class _Validation:
    """Tries a sparsity on the validation nodes, with seeds of its own."""

    def __init__(
        self, engine: Engine, inputs: StudyInputs, options: FrontierOptions, method: str
    ) -> None:
        self._engine, self._inputs = engine, inputs
        self._options, self._method = options, method

    def __call__(self, edge_sparsity: float, weight_sparsity: float) -> Sequence[float] | None:
        given = {
            **self._inputs.settings,
            "edge_sparsity": edge_sparsity,
            "weight_sparsity": weight_sparsity,
        }
        (choice, *_) = choices([self._method], given)
        seeds = range(SEARCH_SEED, SEARCH_SEED + self._options.search_seeds)
        jobs = self._inputs.jobs("search", [choice], seeds)
        finished = run_all(self._engine, self._options, jobs)
        if finished.failures and all(
            isinstance(done.error, BudgetError) for done in finished.failures
        ):
            return None
        Outcome([], finished.failures).check()
        return [POINTS * (cell.val_ticket - cell.val_dense) for cell in finished.cells]


def _confirm(
    engine: Engine,
    inputs: StudyInputs,
    options: FrontierOptions,
    plan: Plan,
    method: str,
    best: Probe,
) -> Outcome:
    """Read the test set once for the sparsity that was found, with seeds that are new.

    Raises:
        InputError: If these seeds have confirmed another sparsity before.
    """
    given = {
        **inputs.settings,
        "edge_sparsity": best.edge_sparsity,
        "weight_sparsity": best.weight_sparsity,
    }
    names = [method] if method == CONTROL else [method, CONTROL]
    chosen = choices(names, given)
    (job,) = inputs.jobs("confirm", chosen[:1], [options.first_seed])
    for cell in read_cells(options.out):
        if cell.stage == "confirm" and _is_second_look(job.spec, cell.spec):
            raise InputError(
                f"{formats.text(str(options.out))} has confirmed {_budget(cell.settings)} before, "
                f"and validation now points to {_budget(given)}; to confirm that on the same seeds "
                "would be to choose by the test set. Give another folder and a --first-seed above "
                "those"
            )
    return sequential_tables(engine, inputs, options, plan, chosen, "confirm")


def _is_second_look(spec: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether two runs differ in how much they prune of the same axis, and in nothing else."""

    def parts(whole: Mapping[str, Any]) -> tuple[list[float], dict[str, Any]]:
        others = {name: value for name, value in whole["settings"].items() if name not in BUDGET}
        return [whole["settings"][name] for name in BUDGET], {**whole, "settings": others}

    (budget, others), (budget_before, others_before) = parts(spec), parts(before)
    axis, axis_before = [value > 0 for value in budget], [value > 0 for value in budget_before]
    return others == others_before and axis == axis_before and budget != budget_before


def _budget(settings: Mapping[str, Any]) -> str:
    return (
        f"{100 * settings['edge_sparsity']:g} % of the edges and "
        f"{100 * settings['weight_sparsity']:g} % of the weights"
    )


def _check_budgets(values: Mapping[str, Any]) -> None:
    for name in BUDGET:
        if values.get(name):
            raise InputError(
                f"{name} is what frontier looks for; leave it out, and choose what is pruned by "
                "--axis"
            )


def _row(probe: Probe) -> tuple[str, ...]:
    budget = formats.percent(probe.edge_sparsity), formats.percent(probe.weight_sparsity)
    if probe.test is None:
        return (*budget, "-", "-", "impossible: a layer or the graph would be empty")
    test = probe.test
    return (
        *budget,
        f"{test.difference.mean:+.2f}",
        f"{test.lower_bound:+.2f}",
        "passes" if probe.passes else "fails",
    )


def _sentence(method: str, found: Search, confirmed: Sequence[Table]) -> str:
    if found.best is None:
        return f"no sparsity that was tried passes on validation with {method}"
    budget = _budget(vars(found.best))
    row = confirmed[0].rows[0]
    if row.versus_dense is None:
        return f"{method} passes on validation up to {budget}; there is no test split to confirm it"
    verdict = row.versus_dense.verdict.value
    like = "-" if row.versus_like is None else row.versus_like.verdict.value
    return (
        f"{method} passes on validation up to {budget}; on test, with {len(row.cells)} new seeds: "
        f"{verdict} (like for like: {like})"
    )


def _json(
    options: FrontierOptions, method: str, found: Search, confirmed: Sequence[Table]
) -> dict[str, Any]:
    def budget(probe: Probe) -> dict[str, float]:
        return {"edge_sparsity": probe.edge_sparsity, "weight_sparsity": probe.weight_sparsity}

    return {
        "axis": options.axis,
        "method": method,
        "margin": options.margin,
        "probes": [
            budget(probe)
            | {
                "difference": None if probe.test is None else probe.test.difference.mean,
                "passes": probe.passes,
            }
            for probe in found.probes
        ],
        "best": None if found.best is None else budget(found.best),
        "confirmation": as_json(confirmed),
    }
