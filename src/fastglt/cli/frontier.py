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
from fastglt.cli.study import Outcome, as_json, check_study, print_tables, run_all
from fastglt.errors import BudgetError, InputError
from fastglt.study.cells import BUDGET
from fastglt.study.frontier import Probe, Search, search
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
    choices([method], inputs.settings)  # refuses what cannot be used
    if options.first_seed + max(options.seeds, options.max_seeds) > SEARCH_SEED:
        raise InputError(
            f"first_seed must leave all seeds below {SEARCH_SEED}, from which on they are those of "
            f"the search (got {options.first_seed})"
        )
    check_study(options)
    inputs.check()
    plan = declared_plan(options)
    found = search(
        options.axis, _Validation(inputs, options, method), options.margin, options.resolution
    )
    outcome = Outcome([], [])
    if found.best is not None:
        outcome = _confirm(inputs, options, plan, method, found.best)
    if options.json_file is not None:
        write_json(_json(options, method, found, outcome.tables), options.json_file)
    output = Output(sys.stderr if options.json_file == STDOUT else None)
    output.table(HEADER, [_row(probe) for probe in found.probes], text=(4,))
    print_tables(outcome.tables, output)
    outcome.check()
    output.line()
    output.line(_sentence(method, found, outcome.tables))


class _Validation:
    """Tries a sparsity on the validation nodes, with seeds of its own."""

    def __init__(self, inputs: StudyInputs, options: FrontierOptions, method: str) -> None:
        self._inputs, self._options, self._method = inputs, options, method

    def __call__(self, edge_sparsity: float, weight_sparsity: float) -> Sequence[float] | None:
        given = {
            **self._inputs.settings,
            "edge_sparsity": edge_sparsity,
            "weight_sparsity": weight_sparsity,
        }
        (choice, *_) = choices([self._method], given)
        seeds = range(SEARCH_SEED, SEARCH_SEED + self._options.search_seeds)
        finished = run_all(self._options, self._inputs.jobs("search", [choice], seeds))
        if finished.failures and all(
            isinstance(done.error, BudgetError) for done in finished.failures
        ):
            return None
        Outcome([], finished.failures).check()
        return [POINTS * (cell.val_ticket - cell.val_dense) for cell in finished.cells]


def _confirm(
    inputs: StudyInputs, options: FrontierOptions, plan: Plan, method: str, best: Probe
) -> Outcome:
    """Read the test set once for the sparsity that was found, with seeds that are new."""
    given = {
        **inputs.settings,
        "edge_sparsity": best.edge_sparsity,
        "weight_sparsity": best.weight_sparsity,
    }
    names = [method] if method == CONTROL else [method, CONTROL]
    return sequential_tables(inputs, options, plan, choices(names, given), "confirm")


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
    budget = (
        f"{100 * found.best.edge_sparsity:g} % of the edges and "
        f"{100 * found.best.weight_sparsity:g} % of the weights"
    )
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
