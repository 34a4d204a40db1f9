"""Search methods: one file a method, registered by name. See :mod:`fastglt.search.base`.

Importing this package imports neither torch nor PyG, for the help of the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class MethodEntry:
    """What is known of a method without importing it.

    Attributes:
        module: The module of this package that holds it.
        prunes_weights: Whether it can be asked for a weight sparsity.
        axes: What ``fastglt frontier`` can look for: where a run depends on the sparsity.
        denoises: Whether its tickets have the history of a denoising run.
        is_control: Whether it is there to be beaten rather than to be used.
        prunes_in_rounds: Whether weights are pruned little by little.
        defaults: Settings whose defaults are the method's own, in every preset.
        paper: Further ones in the preset ``paper``.
    """

    module: str
    prunes_weights: bool = True
    axes: tuple[str, ...] = ("edges", "weights", "joint")
    denoises: bool = False
    is_control: bool = False
    prunes_in_rounds: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)


METHODS: dict[str, MethodEntry] = {
    "fastglt": MethodEntry("fastglt", denoises=True),
    "one-shot": MethodEntry("one_shot"),
    "random": MethodEntry("random", is_control=True),
    "dense": MethodEntry("dense", axes=(), is_control=True),
    "reinit": MethodEntry("reinit", denoises=True, is_control=True),
    "small-dense": MethodEntry("small_dense", axes=("weights",), is_control=True),
    "dropedge": MethodEntry(
        "dropedge", prunes_weights=False, axes=(), is_control=True, defaults={"teacher": "none"}
    ),
    "dspar": MethodEntry(
        "dspar", prunes_weights=False, axes=("edges",), defaults={"teacher": "none"}
    ),
    "ugs": MethodEntry(
        "ugs",
        prunes_in_rounds=True,
        defaults={"teacher": "none", "allocation": "global", "edge_l1": 1e-2, "weight_l1": 1e-2},
        paper={"fixed_epochs": 200},
    ),
    "wd-glt": MethodEntry(
        "wd_glt",
        prunes_in_rounds=True,
        defaults={"teacher": "none", "allocation": "global", "edge_l1": 0.0},
        paper={"fixed_epochs": 200},
    ),
    "early-bird": MethodEntry(
        "early_bird",
        defaults={"teacher": "none", "allocation": "global", "mask_epochs": 100, "edge_l1": 0.0},
    ),
    "teddy": MethodEntry(
        "teddy",
        # The source adds a tenth of the divergence from the teacher to the loss.
        defaults={
            "teacher": "dense",
            "teacher_weight": 1 / 11,
            "teacher_propagation": 0.0,
            "teacher_decay": 0.0,
            "allocation": "global",
        },
    ),
}
"""Every method by the name that people type."""
METHOD_VERSION = 10
"""Raised whenever a method or a default changes what comes out of the same given settings, so that
stored results are not taken for those of the present code."""
