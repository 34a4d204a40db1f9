"""Every conv that the library promises to treat exactly, on small graphs of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import (
    ChebConv,
    GATConv,
    GATv2Conv,
    GCNConv,
    GENConv,
    GINConv,
    GINEConv,
    GraphConv,
    PNAConv,
    ResGatedGraphConv,
    SAGEConv,
    TransformerConv,
)

NUM_NODES, WIDTH, EDGE_DIM = 8, 4, 2
ISOLATED = 5
"""A node without neighbours; where only some nodes have a self-loop it has one."""


@dataclass(frozen=True)
class Conv:
    """How a conv is built and what it takes.

    Attributes:
        make: Builds it from the width of the edge attributes, ``None`` for none.
        keyword: The edge values that it takes, ``None`` for none.
        weights: Names of its linear maps' matrices.
        edge_weights: Further such names if it is given edge attributes.
        optional: Whether it also works without edge values.
    """

    make: Callable[[int | None], nn.Module]
    keyword: str | None
    weights: tuple[str, ...]
    edge_weights: tuple[str, ...] = ()
    optional: bool = True


def _pna(edge_dim):
    degrees = torch.tensor([1, 2, 3, 2])
    kinds, scalers = ["mean", "min", "max", "std"], ["identity", "amplification", "attenuation"]
    return PNAConv(WIDTH, WIDTH, kinds, scalers, degrees, edge_dim=edge_dim, towers=2)


def _mlp():
    return nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, WIDTH))


def _sage(aggr):
    make = lambda _: SAGEConv(WIDTH, WIDTH, aggr=aggr)  # noqa: E731
    return Conv(make, None, ("lin_l.weight", "lin_r.weight"))


def _graph_conv(aggr):
    make = lambda _: GraphConv(WIDTH, WIDTH, aggr=aggr)  # noqa: E731
    return Conv(make, "edge_weight", ("lin_rel.weight", "lin_root.weight"))


_TRANSFORMER = ("lin_key.weight", "lin_query.weight", "lin_value.weight", "lin_skip.weight")
_PNA = tuple(f"{kind}_nns.{tower}.0.weight" for kind in ("pre", "post") for tower in (0, 1))

CONVS = {
    "gcn": Conv(lambda _: GCNConv(WIDTH, WIDTH), "edge_weight", ("lin.weight",)),
    "cheb": Conv(
        lambda _: ChebConv(WIDTH, WIDTH, K=3),
        "edge_weight",
        ("lins.0.weight", "lins.1.weight", "lins.2.weight"),
    ),
    "graph-add": _graph_conv("add"),
    "graph-mean": _graph_conv("mean"),
    "graph-max": _graph_conv("max"),
    "sage-mean": _sage("mean"),
    "sage-max": _sage("max"),
    "sage-sum": _sage("sum"),
    "gin": Conv(lambda _: GINConv(_mlp(), eps=0.3), None, ("nn.0.weight", "nn.2.weight")),
    "gine": Conv(
        lambda edge_dim: GINEConv(_mlp(), eps=0.3, edge_dim=edge_dim),
        "edge_attr",
        ("nn.0.weight", "nn.2.weight"),
        ("lin.weight",),
        optional=False,
    ),
    "gat": Conv(
        lambda edge_dim: GATConv(WIDTH, 2, heads=2, edge_dim=edge_dim),
        "edge_attr",
        ("lin.weight",),
        ("lin_edge.weight",),
    ),
    "gatv2": Conv(
        lambda edge_dim: GATv2Conv(WIDTH, 2, heads=2, edge_dim=edge_dim),
        "edge_attr",
        ("lin_l.weight", "lin_r.weight"),
        ("lin_edge.weight",),
    ),
    "transformer": Conv(
        lambda edge_dim: TransformerConv(WIDTH, 2, heads=2, edge_dim=edge_dim),
        "edge_attr",
        _TRANSFORMER,
        ("lin_edge.weight",),
    ),
    "gen": Conv(
        lambda edge_dim: GENConv(WIDTH, WIDTH, aggr="softmax", learn_t=True, edge_dim=edge_dim),
        "edge_attr",
        ("mlp.0.weight", "mlp.4.weight"),
        ("lin_edge.weight",),
    ),
    "pna": Conv(_pna, "edge_attr", (*_PNA, "lin.weight"), ("edge_encoder.weight",)),
    "gated": Conv(
        lambda edge_dim: ResGatedGraphConv(WIDTH, WIDTH, edge_dim=edge_dim),
        "edge_attr",
        ("lin_key.weight", "lin_query.weight", "lin_value.weight", "lin_skip.weight"),
    ),
}


class Net(nn.Module):
    """Two convs, so that what happens to one node's neighbours reaches others."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x, edge_index, **edge_values):
        hidden = self.first(x, edge_index, **edge_values).tanh()
        return self.second(hidden, edge_index, **edge_values)


@dataclass(frozen=True)
class Case:
    """One cell of the matrix: a conv, and what the graph is like."""

    conv: str
    valued: bool
    directed: bool
    loops: str

    @property
    def keyword(self) -> str | None:
        """The edge values that the conv is given."""
        return CONVS[self.conv].keyword if self.valued else None

    @property
    def edge_dim(self) -> int | None:
        return EDGE_DIM if self.keyword == "edge_attr" else None

    def layer(self, seed: int = 0) -> nn.Module:
        """The conv in float64 and eval mode, every parameter drawn from a normal distribution."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            conv = CONVS[self.conv].make(self.edge_dim).double().eval()
            with torch.no_grad():
                for parameter in conv.parameters():
                    parameter.normal_(std=0.7)
        return conv

    def net(self) -> Net:
        return Net(self.layer(0), self.layer(1))

    def graph(self) -> Data:
        return tiny_graph(self.directed, self.loops, self.keyword)


def cases(*, valued: bool | None = None) -> list:
    """All cells as pytest parameters, or those with (without) edge values only."""
    return [
        pytest.param(
            Case(name, has, directed, loops), id="-".join(_words(name, has, directed, loops))
        )
        for name, conv in CONVS.items()
        for has in ([] if conv.keyword is None else [True]) + ([False] if conv.optional else [])
        for directed in (False, True)
        for loops in ("no", "some", "all")
        if valued in (None, has)
    ]


def _words(name, valued, directed, loops):
    yield name
    if valued:
        yield CONVS[name].keyword
    yield "directed" if directed else "undirected"
    yield f"{loops}-loops"


def tiny_graph(directed: bool, loops: str, keyword: str | None = None) -> Data:
    """Nine pairs of neighbours and one isolated node, float64, edges and loops in mixed order.

    Args:
        directed: One direction of each pair, else both with equal values.
        loops: Which nodes have a self-loop: ``"no"``, ``"some"`` or ``"all"``.
        keyword: Which edge values there are.
    """
    generator = torch.Generator().manual_seed(4)
    pairs = [(0, 1), (2, 0), (0, 3), (1, 2), (4, 1), (3, 4), (6, 4), (7, 6), (6, 2)]
    looped = {"no": [], "some": [6, ISOLATED, 1], "all": list(range(NUM_NODES))}[loops]
    value = torch.rand(len(pairs), EDGE_DIM, generator=generator, dtype=torch.float64) + 0.5
    columns = [(u, v, value[i]) for i, (u, v) in enumerate(pairs)]
    if not directed:
        columns += [(v, u, attribute) for u, v, attribute in columns]
    columns += [(node, node, value[node % 3] + 0.1) for node in looped]
    order = torch.randperm(len(columns), generator=generator).tolist()
    sources, targets, values = zip(*(columns[i] for i in order), strict=True)
    data = Data(edge_index=torch.tensor([sources, targets]), num_nodes=NUM_NODES)
    data.x = torch.randn(NUM_NODES, WIDTH, generator=generator, dtype=torch.float64)
    if keyword == "edge_attr":
        data.edge_attr = torch.stack(values)
    if keyword == "edge_weight":
        data.edge_weight = torch.stack(values)[:, 0]
    return data


def edge_values(data: Data) -> dict[str, torch.Tensor]:
    """The keyword arguments for the edges of a graph."""
    return {name: data[name] for name in ("edge_weight", "edge_attr") if name in data}


def call(model: nn.Module, data: Data) -> torch.Tensor:
    return model(data.x, data.edge_index, **edge_values(data))
