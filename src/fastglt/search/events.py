"""The masks at one of a denoising run's events, and how much of earlier ones they keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastglt.masks import EdgeMask, WeightMask
from fastglt.training.states import check_like, to_device_of


@dataclass(frozen=True)
class MaskSnapshot:
    """Masks with the metric they reached and the weights that reached it."""

    step: int
    metric: float
    edge_mask: EdgeMask
    weight_mask: WeightMask
    state: dict[str, Tensor]

    def state_dict(self) -> dict[str, Any]:
        """Everything as numbers, tensors and containers of them."""
        return {
            "step": self.step,
            "metric": self.metric,
            "keep": self.edge_mask.keep,
            "weight_mask": dict(self.weight_mask),
            "state": dict(self.state),
        }

    @classmethod
    def of_state_dict(cls, state: Mapping[str, Any], like: MaskSnapshot) -> MaskSnapshot:
        """Undo :meth:`state_dict`.

        Args:
            state: What it returned.
            like: Another one of the same model and graph.

        Raises:
            InputError: If the state is of another model or graph.
        """
        own = like.state_dict()
        check_like({"keep": state["keep"]}, {"keep": own["keep"]})
        for name in ("weight_mask", "state"):
            check_like(state[name], own[name])
        return cls(
            int(state["step"]),
            float(state["metric"]),
            EdgeMask(like.edge_mask.groups, state["keep"].to(own["keep"].device)),
            WeightMask(to_device_of(state["weight_mask"], own["weight_mask"])),
            to_device_of(state["state"], own["state"]),
        )


def overlap(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of what is kept now that was kept before, 1 where nothing is kept.

    Args:
        pairs: Bool masks now and before, both of one shape.
    """
    kept = common = 0
    for now, before in pairs:
        kept += int(now.sum())
        common += int((now & before).sum())
    return common / kept if kept else 1.0
