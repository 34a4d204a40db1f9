"""``find``, with what a study keeps of a run besides the ticket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn
from torch_geometric.data import Data

from fastglt.api.finder import Finder
from fastglt.cost import num_bytes
from fastglt.settings import Settings
from fastglt.study.analysis import Outcome, analyse
from fastglt.ticket import Ticket
from fastglt.ticket.compiled import uncompiled
from fastglt.training.callback import Callback
from fastglt.training.task import Task


class Evidence(NamedTuple):
    """A run of ``find`` as a study wants it.

    Attributes:
        ticket: The ticket.
        figures: ``bytes_dense``, ``bytes_ticket`` and ``analysis`` (see
            :func:`fastglt.study.analysis.analyse`, empty if the test split was not to be read).
    """

    ticket: Ticket
    figures: Mapping[str, Any]


def find_with_evidence(
    model: nn.Module,
    data: Data,
    task: Task,
    settings: Settings,
    *,
    narrow: Callable[[int], nn.Module] | None = None,
    reads_test: bool = True,
) -> Evidence:
    """Find a ticket and look at what it does to the graph and its nodes.

    Args:
        model: As in :func:`fastglt.find`.
        data: As in :func:`fastglt.find`.
        task: What is predicted.
        settings: All settings.
        narrow: As in :func:`fastglt.find`.
        reads_test: Whether test labels may be read.
    """
    finder = Finder(
        uncompiled(model), data, task, settings, None, Callback(), narrow, reads_test=reads_test
    )
    ticket = finder.run()
    figures = {
        "bytes_dense": num_bytes(finder.untrained),
        "bytes_ticket": num_bytes(finder.pruned, ticket.weight_masks),
        "analysis": {},
    }
    if reads_test:
        dense, pruned = finder.predictions
        outcome = Outcome(finder.plain, ticket.edge_keep, ticket.weight_masks, dense, pruned)
        figures["analysis"] = analyse(outcome)
    return Evidence(ticket, figures)
