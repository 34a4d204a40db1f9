"""Randomness from explicit seeds, leaving the global random state as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the context torch's random state follows from ``seed``; afterwards it is restored.

    Dropout and parameter initialisation can only draw from the global state; everything else
    takes a :class:`torch.Generator`.
    """
    device = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=device):
        torch.manual_seed(seed)
        yield
