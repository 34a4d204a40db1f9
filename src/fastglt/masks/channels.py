"""Hidden channels: what lies between the linear maps of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ChannelGroup:
    """Hidden channels that some linear maps write and others read.

    Attributes:
        size: Number of channels.
        writers: Names of the weights ``[size, fan_in]`` whose rows write the channels. Of several,
            as around residual connections, the outputs are added.
        readers: By name of a weight ``[fan_out, k]``, ``[k]`` int64: the channel that a column
            reads, and nothing else, or -1 where it reads none of this group.
    """

    size: int
    writers: tuple[str, ...]
    readers: Mapping[str, Tensor]
