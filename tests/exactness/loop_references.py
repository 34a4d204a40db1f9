"""Convs written as loops over nodes and their incoming edges, from the publications' formulas.

Each is called as ``reference(conv, x, edges)`` with ``edges`` a list of ``(source, target,
value)``, where ``value`` is the edge's weight or attributes or ``None``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def _apply(linear, value):
    return F.linear(value, linear.weight, linear.bias)


def _incoming(edges, node):
    return [(source, value) for source, target, value in edges if target == node]


def _combine(aggr, messages, like):
    if not messages:
        return torch.zeros_like(like)
    stacked = torch.stack(messages)
    return {"sum": stacked.sum(0), "mean": stacked.mean(0), "max": stacked.amax(0)}[aggr]


def gcn(conv, x, edges):
    """Kipf & Welling: symmetric normalisation; nodes without a self-loop get one of weight 1."""
    weighted = [(u, v, 1.0 if w is None else w) for u, v, w in edges]
    looped = {u for u, v, _ in weighted if u == v}
    weighted += [(node, node, 1.0) for node in range(len(x)) if node not in looped]
    degree = [sum(w for _, v, w in weighted if v == node) for node in range(len(x))]
    hidden = _apply(conv.lin, x)
    rows = []
    for node in range(len(x)):
        terms = [
            w * hidden[u] / (degree[u] * degree[node]) ** 0.5 for u, w in _incoming(weighted, node)
        ]
        rows.append(sum(terms) + conv.bias)
    return torch.stack(rows)


def sage(aggr):
    """Hamilton et al.: an aggregate of the neighbours beside the node itself."""

    def reference(conv, x, edges):
        rows = []
        for node in range(len(x)):
            neighbours = [x[u] for u, _ in _incoming(edges, node)]
            aggregate = _combine(aggr, neighbours, x[node])
            rows.append(_apply(conv.lin_l, aggregate) + _apply(conv.lin_r, x[node]))
        return torch.stack(rows)

    return reference


def graph_conv(aggr):
    """Morris et al.: as above, with weighted neighbours."""

    def reference(conv, x, edges):
        rows = []
        for node in range(len(x)):
            terms = [x[u] if w is None else w * x[u] for u, w in _incoming(edges, node)]
            aggregate = _combine(aggr, terms, x[node])
            rows.append(_apply(conv.lin_rel, aggregate) + _apply(conv.lin_root, x[node]))
        return torch.stack(rows)

    return reference


def gin(conv, x, edges):
    """Xu et al., and with attributes Hu et al.: an MLP of a sum."""
    rows = []
    for node in range(len(x)):
        total = (1 + conv.eps) * x[node]
        for source, value in _incoming(edges, node):
            message = x[source]
            if value is not None:
                message = (message + _apply(conv.lin, value)).clamp_min(0)
            total = total + message
        rows.append(_apply(conv.nn[2], _apply(conv.nn[0], total).tanh()))
    return torch.stack(rows)


def gat(conv, x, edges):
    """Veličković et al.: existing self-loops are replaced by new ones.

    A new loop's attributes are the mean of those of the node's other incoming edges.
    """
    edges = [edge for edge in edges if edge[0] != edge[1]]
    for node in range(len(x)):
        values = [value for _, value in _incoming(edges, node) if value is not None]
        has_values = conv.lin_edge is not None
        mean = sum(values) / len(values) if values else torch.zeros(2, dtype=x.dtype)
        edges = [*edges, (node, node, mean if has_values else None)]
    hidden = _apply(conv.lin, x).view(len(x), conv.heads, conv.out_channels)
    rows = []
    for node in range(len(x)):
        incoming = _incoming(edges, node)
        logits = torch.stack([_gat_logit(conv, hidden, u, node, value) for u, value in incoming])
        attention = F.leaky_relu(logits, 0.2).softmax(dim=0)
        row = sum(a[:, None] * hidden[u] for a, (u, _) in zip(attention, incoming, strict=True))
        rows.append(row.reshape(-1) + conv.bias)
    return torch.stack(rows)


def _gat_logit(conv, hidden, source, target, value):
    logit = (hidden[source] * conv.att_src[0]).sum(-1) + (hidden[target] * conv.att_dst[0]).sum(-1)
    if value is not None:
        edge = _apply(conv.lin_edge, value).view(conv.heads, conv.out_channels)
        logit = logit + (edge * conv.att_edge[0]).sum(-1)
    return logit


def transformer(conv, x, edges):
    """Shi et al.: dot-product attention over the neighbours, beside the node itself."""
    shape = (conv.heads, conv.out_channels)
    rows = []
    for node in range(len(x)):
        query = _apply(conv.lin_query, x[node]).view(shape)
        logits, values = [], []
        for source, value in _incoming(edges, node):
            edge = 0 if value is None else _apply(conv.lin_edge, value).view(shape)
            key = _apply(conv.lin_key, x[source]).view(shape) + edge
            logits.append((query * key).sum(-1) / conv.out_channels**0.5)
            values.append(_apply(conv.lin_value, x[source]).view(shape) + edge)
        row = _apply(conv.lin_skip, x[node])
        if values:
            attention = torch.stack(logits).softmax(dim=0)
            row = row + (attention[..., None] * torch.stack(values)).sum(0).reshape(-1)
        rows.append(row)
    return torch.stack(rows)


REFERENCES = {
    "gcn": gcn,
    "sage-mean": sage("mean"),
    "sage-max": sage("max"),
    "sage-sum": sage("sum"),
    "graph-add": graph_conv("sum"),
    "graph-mean": graph_conv("mean"),
    "graph-max": graph_conv("max"),
    "gin": gin,
    "gine": gin,
    "gat": gat,
    "transformer": transformer,
}
