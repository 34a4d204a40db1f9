"""Hard weight masks: pruned weights stay at exactly 0, whatever trains them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fastglt.masks import WeightMask


class WeightGate:
    """Keeps pruned weights at exactly 0 while an optimizer trains them.

    The mask is enforced by a post-step hook, since masking gradients is not enough: momentum and
    weight decay would revive pruned weights.

    Args:
        parameters: The masked parameters by name; their pruned entries are set to 0 at once.
        optimizer: The optimizer that holds the parameters.
        mask: Which entries are kept, for each of ``parameters``.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        mask: WeightMask,
    ) -> None:
        self._parameters = {name: parameters[name] for name in mask}
        self._optimizer = optimizer
        self._pruned: dict[str, Tensor] = {}
        self.mask = mask
        self._set(mask)
        self._hook = optimizer.register_step_post_hook(lambda *_: self.enforce())

    @torch.no_grad()
    def enforce(self) -> None:
        """Set every pruned weight to 0."""
        for name, pruned in self._pruned.items():
            self._parameters[name].masked_fill_(pruned, 0)

    @torch.no_grad()
    def update(self, mask: WeightMask) -> None:
        """Replace the mask; weights that were dropped or grown start from 0 without momentum."""
        for name, parameter in self._parameters.items():
            changed = mask[name] ^ self.mask[name]
            parameter.masked_fill_(changed, 0)
            clear_moments(self._optimizer, parameter, changed)
        self._set(mask)

    def restore(self, mask: WeightMask) -> None:
        """Replace the mask by one under which weights and momentum are already."""
        self._set(mask)

    def remove(self) -> None:
        """Stop enforcing the mask."""
        self._hook.remove()

    def _set(self, mask: WeightMask) -> None:
        self.mask = mask
        self._pruned = {name: ~keep for name, keep in mask.items()}
        self.enforce()


@torch.no_grad()
def clear_moments(optimizer: torch.optim.Optimizer, parameter: Tensor, entries: Tensor) -> None:
    """Zero the optimizer's per-entry state (momentum, second moments) of the given entries."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.masked_fill_(entries, 0)


def apply_weight_mask(
    state: Mapping[str, Tensor],
    mask: Mapping[str, Tensor],
    tied: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """A copy of a state dict in which the pruned weights are exactly 0.

    Args:
        state: The state dict.
        mask: Kept weights by parameter name.
        tied: Further names of shared parameters, see :func:`~fastglt.gating.tied_names`: the
            entries under them are masked alike, else loading them would undo the mask.
    """
    first = dict(tied or {})
    masked = {}
    for name, tensor in state.items():
        keep = mask.get(first.get(name, name))
        if keep is None:
            masked[name] = tensor.clone()
        else:
            masked[name] = tensor.detach().masked_fill(~keep.to(tensor.device), 0)
    return masked
