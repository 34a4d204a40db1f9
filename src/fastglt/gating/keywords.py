"""Which edge tensors a model understands, read off its modules without running it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Literal

from torch import nn
from torch_geometric.nn import MessagePassing, Sequential
from torch_geometric.nn.models.basic_gnn import BasicGNN

EdgeKeyword = Literal["edge_weight", "edge_attr"]


def accepts_keyword(model: nn.Module, keyword: EdgeKeyword) -> bool:
    """Whether a model may be called as ``model(x, edge_index, <keyword>=...)``.

    A custom module accepts what its ``forward`` names; one with ``**kwargs`` accepts what any of
    its submodules with convs accepts. PyG's models name both keywords and go by
    ``supports_edge_weight`` and ``supports_edge_attr``. A conv that was built with
    ``edge_dim=None`` does not accept ``edge_attr``, although its ``forward`` names it.
    """
    if isinstance(model, BasicGNN):
        supported = bool(getattr(model, f"supports_{keyword}"))
        return supported and all(accepts_keyword(conv, keyword) for conv in model.convs)
    if isinstance(model, MessagePassing) and keyword == "edge_attr":
        named = keyword in argument_names(model)
        return named and getattr(model, "edge_dim", 0) is not None
    if keyword in argument_names(model):
        return True
    return _passes_keywords_on(model) and any(
        accepts_keyword(child, keyword) for child in _transparent(model.children())
    )


def takes_edge_attr(model: nn.Module) -> bool:
    """Whether a model is to be called with the graph's ``edge_attr``."""
    return accepts_keyword(model, "edge_attr")


def takes_edge_weight(model: nn.Module) -> bool:
    """Whether an ``edge_weight`` given to the model reaches every conv of it.

    Every module from the model down to a conv must accept the keyword, see
    :func:`accepts_keyword`; in a PyG ``Sequential`` it must also stand where the conv expects it.
    That a ``forward`` uses what it names cannot be seen without running it;
    :func:`~fastglt.gating.gate_gradient` refuses a model that uses nothing of it.

    Note:
        For convs that sum (GCN and its relatives, ``GraphConv(aggr="add")``), weight 0 is the
        same as removing the edge. For those that take a mean, a maximum or a deviation
        (``GraphConv(aggr="mean")``) it is not: a message of zeros still counts.
    """
    return (
        _has_convs(model)
        and accepts_keyword(model, "edge_weight")
        and _reaches_every_conv(model, "edge_weight")
    )


def _reaches_every_conv(module: nn.Module, keyword: EdgeKeyword) -> bool:
    below = [child for child in module.children() if _has_convs(child)]
    if not all(_reaches_every_conv(child, keyword) for child in below):
        return False
    if not _has_convs(module) or _is_container(module):
        return True
    if isinstance(module, Sequential) and not _is_placed_rightly(module, keyword):
        return False
    return accepts_keyword(module, keyword)


def _is_placed_rightly(model: Sequential, keyword: EdgeKeyword) -> bool:
    """Whether a ``Sequential`` gives the keyword to each conv under the same name."""
    for child in model._children:
        module = getattr(model, child.name)
        if not isinstance(module, nn.Module) or not _has_convs(module):
            continue
        names = argument_names(module)[: len(child.param_names)]
        if (keyword, keyword) not in zip(child.param_names, names, strict=False):
            return False
    return True


def _has_convs(module: nn.Module) -> bool:
    return any(isinstance(part, MessagePassing) for part in module.modules())


def _is_container(module: nn.Module) -> bool:
    """Whether a module only holds others (``ModuleList``, ...), which are called one by one."""
    return type(module).forward is nn.Module.forward


def _transparent(modules: Iterable[nn.Module]) -> Iterable[nn.Module]:
    """Modules with convs, containers replaced by what they hold."""
    for module in modules:
        if _is_container(module):
            yield from _transparent(module.children())
        elif _has_convs(module):
            yield module


def argument_names(module: nn.Module) -> list[str]:
    """Names of what a module is called with, in their order."""
    if isinstance(module, Sequential):
        return list(module.signature.param_dict)  # its forward may be a plain (*args, **kwargs)
    return list(inspect.signature(module.forward).parameters)


def _passes_keywords_on(module: nn.Module) -> bool:
    arguments = inspect.signature(module.forward).parameters.values()
    return any(argument.kind is inspect.Parameter.VAR_KEYWORD for argument in arguments)
