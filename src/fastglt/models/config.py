"""The size of a named backbone. Importing this module imports neither torch nor PyG."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class BackboneConfig(BaseModel):
    """Width, depth and dropout of a named backbone."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    hidden: int = Field(default=512, ge=1, description="hidden channels")
    layers: int = Field(default=2, ge=1, description="number of convs")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="dropout between layers")
