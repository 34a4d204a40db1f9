"""The registry of named backbones. Importing it imports neither torch nor PyG.

None of them sees edge weights except ``gcn``. Edge attributes are seen by those whose entry says
``edge_features=True``; the others are trained on the bare edges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fastglt.errors import InputError, UnknownNameError
from fastglt.models.config import BackboneConfig

if TYPE_CHECKING:
    from torch import nn


class Columns(NamedTuple):
    """What a graph and a task ask of a model.

    Attributes:
        features: Columns of what the first layer reads.
        outputs: Columns of the output.
        edge_features: Columns of ``edge_attr``; 0 where there is none or it is not to be read.
    """

    features: int
    outputs: int
    edge_features: int


@dataclass(frozen=True)
class Backbone:
    """An entry of the registry.

    Attributes:
        build: Makes the model, of a config without ``None`` where ``defaults`` have none.
        defaults: What an option that is not given stands for; ``None`` if the backbone does not
            have the option.
        edge_features: Whether it reads ``edge_attr``.
    """

    build: Callable[[Columns, BackboneConfig], nn.Module]
    defaults: BackboneConfig
    edge_features: bool = False


def _gcn(columns: Columns, config: BackboneConfig) -> nn.Module:
    from torch_geometric.nn import GCN

    return _basic(GCN, columns, config)


def _gin(columns: Columns, config: BackboneConfig) -> nn.Module:
    from torch_geometric.nn import GIN

    # Without a last linear map, the last MLP would squeeze through a ReLU as narrow as the output.
    return _basic(GIN, columns, config, jk="last")


def _sage(columns: Columns, config: BackboneConfig) -> nn.Module:
    from torch_geometric.nn import GraphSAGE

    return _basic(GraphSAGE, columns, config)


def _gat(columns: Columns, config: BackboneConfig) -> nn.Module:
    from fastglt.models.gat import InputDropoutGAT

    return _basic(
        InputDropoutGAT,
        columns,
        config,
        heads=config.heads,
        act="elu",
        edge_dim=columns.edge_features or None,
    )


def _deepergcn(columns: Columns, config: BackboneConfig) -> nn.Module:
    from fastglt.models.deepergcn import DeeperGCN

    return _basic(DeeperGCN, columns, config, edge_dim=columns.edge_features or None)


def _basic(kind: Any, columns: Columns, config: BackboneConfig, **options: Any) -> nn.Module:
    """A model whose constructor takes its arguments as PyG's BasicGNN does."""
    if config.norm not in (None, "none"):
        options["norm"] = config.norm
    model: nn.Module = kind(
        columns.features,
        config.hidden,
        config.layers,
        columns.outputs,
        dropout=config.dropout,
        **options,
    )
    return model


_TWO_WIDE_LAYERS = BackboneConfig(hidden=512, layers=2, dropout=0.5, norm="none")

BACKBONES: dict[str, Backbone] = {
    "gcn": Backbone(_gcn, _TWO_WIDE_LAYERS),
    "gin": Backbone(_gin, _TWO_WIDE_LAYERS),
    "gat": Backbone(
        _gat,
        BackboneConfig(hidden=64, layers=2, dropout=0.6, heads=8, norm="none"),
        edge_features=True,
    ),
    "sage": Backbone(_sage, _TWO_WIDE_LAYERS),
    "deepergcn": Backbone(
        _deepergcn, BackboneConfig(hidden=128, layers=28, dropout=0.5), edge_features=True
    ),
}


def resolve_config(
    name: str, config: BackboneConfig | None = None, *, featureless: bool = False
) -> BackboneConfig:
    """A config with the backbone's own defaults in place of ``None``.

    Resolving twice changes nothing.

    Args:
        name: A name in :data:`BACKBONES`.
        config: What was asked for.
        featureless: Whether the graph has no features, so that the width of the learned embedding
            is resolved too.

    Returns:
        A plain :class:`BackboneConfig`. ``heads`` stays ``None`` for a backbone without heads, and
        ``embedding_dim`` unless ``featureless``.

    Raises:
        UnknownNameError: If there is no such backbone.
        InputError: If the backbone does not have an option, or options do not fit together.
    """
    if name.lower() not in BACKBONES:
        raise UnknownNameError("model", name, BACKBONES)
    values = BACKBONES[name.lower()].defaults.model_dump()
    for option in BackboneConfig.model_fields:
        value = getattr(config, option, None)
        if value is None:
            continue
        if values[option] is None and option != "embedding_dim":
            raise InputError(f"{name} has no {option} (got {option}={value}); leave it out")
        values[option] = value
    if featureless and values["embedding_dim"] is None:
        values["embedding_dim"] = values["hidden"]
    if values["heads"] is not None and values["hidden"] % values["heads"]:
        raise InputError(
            "hidden must be divisible by heads, because it counts the channels of all heads "
            f"together (got hidden={values['hidden']}, heads={values['heads']})"
        )
    return BackboneConfig(**values)


def build_model(
    name: str,
    num_features: int,
    num_outputs: int,
    config: BackboneConfig | None = None,
    *,
    num_edge_features: int = 0,
    num_nodes: int | None = None,
) -> nn.Module:
    """Build a named backbone with random weights from torch's global random state.

    Args:
        name: A name in :data:`BACKBONES`.
        num_features: Columns of ``x``; 0 for a graph without features, for which the model gets a
            learned embedding of its nodes (:class:`~fastglt.models.embedding.WithEmbedding`).
        num_outputs: Columns of the output.
        config: Size and dropout; what is ``None`` is the backbone's default.
        num_edge_features: Columns of ``edge_attr``. Backbones whose entry does not say
            ``edge_features`` do not read it.
        num_nodes: Number of nodes, needed for a graph without features only.

    Returns:
        A model called as ``model(x, edge_index)``, and with ``edge_attr=`` if it reads it.

    Raises:
        UnknownNameError: If there is no such backbone.
        InputError: If options do not fit the backbone or the graph, or each other.
    """
    config = resolve_config(name, config, featureless=num_features == 0)
    backbone = BACKBONES[name.lower()]
    columns = Columns(num_features, num_outputs, num_edge_features if backbone.edge_features else 0)
    if num_features:
        if config.embedding_dim is not None:
            raise InputError(
                "embedding_dim is for graphs without features (got "
                f"embedding_dim={config.embedding_dim} and {num_features} features); leave it out"
            )
        return backbone.build(columns, config)
    if not num_nodes or config.embedding_dim is None:
        raise InputError(
            "num_nodes must be given for a graph without features, whose nodes get a learned "
            f"embedding (got {num_nodes})"
        )
    from fastglt.models.embedding import WithEmbedding

    model = backbone.build(columns._replace(features=config.embedding_dim), config)
    return WithEmbedding(model, num_nodes, config.embedding_dim)
