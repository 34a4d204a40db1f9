"""A small neighbourhood of the graph, with kept and removed edges."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastglt.report.figures.canvas import legend_below, new_figure
from fastglt.report.records import Neighbourhood
from fastglt.report.style import BLUE, INK, PAPER, VERMILLION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Positions = list[tuple[float, float]]


def neighbourhood(part: Neighbourhood) -> Figure:
    """Draw the nodes, with their class, and the edges."""
    figure = new_figure(4.4)
    axes = figure.subplots()
    positions = layout(part)
    edges = proper_edges(part)
    for keeps, color, style, width, label in (
        (False, VERMILLION, (0, (3, 2)), 1.3, "removed edges"),
        (True, BLUE, "-", 2.0, "kept edges"),
    ):
        chosen = [edge for edge in edges if edge[2] is keeps]
        for number, (left, right, _) in enumerate(chosen):
            axes.plot(
                *zip(positions[left], positions[right], strict=True),
                color=color,
                linestyle=style,
                linewidth=width,
                label=f"{label} ({len(chosen)})" if number == 0 else None,
                zorder=2 + keeps,
            )
    for (x, y), node in zip(positions, part.nodes, strict=True):
        is_middle = node.id == part.middle
        axes.plot(
            x,
            y,
            "o",
            markersize=15 if is_middle else 12,
            markerfacecolor=PAPER,
            markeredgecolor=INK,
            markeredgewidth=2.5 if is_middle else 1,
            zorder=4,
        )
        axes.annotate(
            str(node.label), (x, y), ha="center", va="center_baseline", fontsize=8, zorder=5
        )
    axes.set_aspect("equal")
    axes.margins(0.06)
    axes.axis("off")
    legend_below(figure, axes)
    return figure


def proper_edges(part: Neighbourhood) -> list[tuple[int, int, bool]]:
    """Edges between two different nodes that there are."""
    number = len(part.nodes)
    return [
        (left, right, keeps)
        for left, right, keeps in part.edges
        if left != right and 0 <= left < number and 0 <= right < number
    ]


def layout(part: Neighbourhood) -> Positions:
    """Where to put the nodes: Kamada and Kawai's layout from a circle, the same every time."""
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(range(len(part.nodes)))
    graph.add_edges_from((left, right) for left, right, _ in proper_edges(part))
    step = 2 * math.pi / max(1, len(part.nodes))
    circle = {place: (math.cos(step * place), math.sin(step * place)) for place in graph.nodes}
    # All pairs have a distance, also where the part is not connected.
    far = 1 + len(part.nodes) ** 0.5
    lengths = dict(networkx.all_pairs_shortest_path_length(graph))
    distance = {
        left: {right: float(lengths[left].get(right, far)) for right in graph.nodes}
        for left in graph.nodes
    }
    found = networkx.kamada_kawai_layout(graph, dist=distance, pos=circle)
    return [(float(found[place][0]), float(found[place][1])) for place in graph.nodes]
