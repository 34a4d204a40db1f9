"""The size of a named backbone. Importing this module imports neither torch nor PyG."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class BackboneConfig(BaseModel):
    """Size and dropout of a named backbone; ``None`` stands for the backbone's own default.

    :func:`fastglt.models.resolve_config` puts the defaults in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    hidden: int | None = Field(
        default=None,
        ge=1,
        description="hidden channels, of all heads together; default: 512, gat 64, deepergcn 128",
    )
    layers: int | None = Field(
        default=None, ge=1, description="number of convs; default: 2, deepergcn 28"
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="dropout between layers; default: 0.5, gat 0.6"
    )
    heads: int | None = Field(
        default=None, ge=1, description="attention heads, of gat only; default: 8"
    )
    norm: Literal["none", "batch_norm", "layer_norm"] | None = Field(
        default=None,
        description="norm after each conv but the last (gin: also within its MLPs), not of "
        "deepergcn; default: none. gin sums over neighbours: where they are many, it wants "
        "batch_norm",
    )
    embedding_dim: int | None = Field(
        default=None,
        ge=1,
        description="width of the learned node embedding of a graph without features; default: "
        "hidden",
    )
