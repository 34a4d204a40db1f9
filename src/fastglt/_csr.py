"""Torch's notices about sparse CSR tensors, which say nothing that a user of ours can act on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ignore_csr_warnings() -> Iterator[None]:
    """Keep torch from telling that CSR tensors are in beta and that it does not check them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        warnings.filterwarnings("ignore", "Sparse invariant checks are implicitly disabled")
        yield
