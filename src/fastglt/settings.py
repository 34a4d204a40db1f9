"""Every setting of a search, with its default, its range and what it means.

The command line, ``--config`` files, the Python API and the ticket file all use these models, so
a setting is declared once. Importing this module imports neither torch nor PyG.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from fastglt.errors import MOST_SHOWN, BudgetError, InputError, shown

GIVEN = "given"
"""What the setting ``teacher`` is with a teacher of the caller's."""
Allocation = Literal["erk", "live", "uniform", "global"]
SwapSchedule = Literal["cosine", "linear", "constant"]
WarmupSchedule = Literal["linear", "cubic"]
EDGE_SCORES = ("divergence", "agreement", "influence", "unit-gate", "degree", "similarity")
"""What edges can be scored by."""
TRAINED_GATE = "trained-gate"
"""The score that is trained with the model, and goes with no other one."""
BATCH_SIZE = (
    "nodes or positive pairs in a training step; default: 1024 with sampler neighbor, in link "
    "prediction without one a tenth of the pairs, at most 65536"
)
"""What the setting and the option of link prediction of that name say."""
UNTAUGHT = "divergence+agreement"
"""What edges are scored by where nothing is said of that, and no teacher guides."""


_SAMPLING = {"fanout": "neighbor", "num_clusters": "cluster", "batch_clusters": "cluster"}
"""Settings of one sampler only."""


class DenoiseConfig(BaseModel):
    """How masks are cut and denoised: what :class:`fastglt.Denoiser` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    allocation: Allocation = Field(
        default="erk",
        description="how the weight budget is shared among layers: by their shapes, which spares "
        "small ones, by their shapes without dead channels, so that denoising moves it, at one "
        "density, or by ranking all weights together",
    )
    channel_power: float = Field(
        default=1.0,
        ge=0,
        description="weight scores are multiplied by the importance of the channels between layers "
        "to this power, so that few channels stay alive (0: they are not)",
    )
    channel_cap: float = Field(
        default=1.0,
        ge=0,
        description="that importance counts up to the inverse of the share of weights kept, to "
        "this power, so that weights do not gather on even fewer channels",
    )
    weight_pattern: str = Field(
        default="none",
        description="what the kept weights of a layer must be made of: at most N of every M "
        "neighbouring inputs of an output ('N:M', such as '2:4'), or blocks of R outputs by C "
        "inputs ('RxC', such as '4x4')",
    )
    interval: int = Field(default=5, ge=1, description="steps between two swaps")
    accumulation: int = Field(
        default=3, ge=1, description="last steps of an interval whose weight gradients are averaged"
    )
    alpha: float = Field(
        default=0.3, ge=0, le=1, description="share of the kept components swapped first"
    )
    swap_schedule: SwapSchedule = Field(
        default="cosine", description="how the share that is swapped falls over denoising"
    )
    warmup_start: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of the target sparsity that the one-shot cut reaches",
    )
    warmup_events: int = Field(
        default=0, ge=0, description="swaps over which the rest of the target sparsity is reached"
    )
    warmup_schedule: WarmupSchedule = Field(
        default="linear", description="how the sparsity rises over these swaps"
    )
    include: tuple[str, ...] = Field(
        default=(),
        description="patterns of parameters to prune besides the matrices of linear maps, such as "
        "'*.att_src,embedding.*'",
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="patterns of parameters that are not to be pruned, such as 'head.*'"
    )

    @field_validator("include", "exclude", mode="before")
    @classmethod
    def _split_patterns(cls, value: object) -> object:
        """One string holds patterns separated by commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("weight_pattern")
    @classmethod
    def _check_pattern(cls, value: str) -> str:
        form = re.fullmatch(r"none|([1-9]\d{0,8})(?:(:)|x)([1-9]\d{0,8})", value)
        if form is None or (form[2] and int(form[1]) > int(form[3])):
            raise ValueError(
                "weight_pattern must be 'none', 'N:M' with N at most M, such as '2:4', or 'RxC', "
                f"such as '4x4' (got {value!r})"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> DenoiseConfig:
        if self.accumulation > self.interval:
            raise ValueError(
                f"accumulation must be at most interval (got {self.accumulation} > "
                f"{self.interval}); give both"
            )
        if self.warmup_start < 1 and self.warmup_events == 0:
            raise ValueError(
                f"warmup_start={self.warmup_start} needs warmup_events of at least 1 (got 0)"
            )
        return self


class Settings(DenoiseConfig):
    """Settings of :func:`fastglt.find`. The defaults are those of the preset ``default``."""

    method: str = Field(default="fastglt", description="search method")
    preset: str = Field(default="default", description="named set of defaults")
    edge_sparsity: float = Field(
        default=0.0, ge=0, lt=1, description="share of the prunable edge groups that is removed"
    )
    weight_sparsity: float = Field(
        default=0.0, ge=0, lt=1, description="share of the prunable weights that is removed"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of everything random")
    recover: Literal["rewind", "finetune"] = Field(
        default="rewind",
        description="retrain from the initial weights, or fine-tune those of a trained model "
        "(Python only)",
    )
    dense_epochs: int = Field(default=200, ge=1, description="epochs of the dense run")
    pretrain_epochs: int = Field(default=10, ge=0, description="epochs before the one-shot cut")
    denoise_steps: int = Field(default=120, ge=0, description="training steps of gradual denoising")
    denoise_patience: int = Field(
        default=0,
        ge=0,
        description="stop denoising after so many swaps without better masks (0: never)",
    )
    recalibrate: bool = Field(
        default=False,
        description="take the statistics of batch normalisation anew on the kept graph under the "
        "masks before they are validated",
    )
    retrain_epochs: int = Field(
        default=200, ge=1, description="epochs of retraining under the masks"
    )
    patience: int = Field(
        default=100, ge=0, description="stop after so many epochs without a better one (0: never)"
    )
    lr: float = Field(default=0.01, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(
        default=5e-4,
        ge=0,
        description="weight decay of the model's parameters; edge gates have none",
    )
    decay_power: float = Field(
        default=1.0,
        ge=0,
        description="from the one-shot cut on the weight decay is multiplied by the share of "
        "weights that is kept to this power: few weights a neuron cannot hold against all of it",
    )
    dropout_power: float = Field(
        default=0.5, ge=0, description="likewise for the probabilities of dropout"
    )
    lr_power: float = Field(
        default=0.15,
        ge=0,
        description="likewise, but the learning rate is divided by the share to this power",
    )
    teacher: Literal["none", "dense", "given"] = Field(
        default="dense",
        description="whose soft predictions, those of unlabelled nodes included, guide search and "
        "retraining: the dense model's, or those of a teacher that is given",
    )
    teacher_phases: Literal["both", "search", "retrain"] = Field(
        default="both", description="what the teacher guides"
    )
    teacher_weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the distillation term in the loss; default: 1 minus half the share "
        "of nodes that have a label to train on",
    )
    teacher_propagation: float = Field(
        default=0.8,
        ge=0,
        lt=1,
        description="share of the dense model's predictions for a node that is taken from its "
        "neighbours', by personalised PageRank, unless that is worse on validation",
    )
    teacher_decay: float = Field(
        default=0.5,
        ge=0,
        description="under a teacher the weight decay is multiplied by the share of nodes that "
        "have a label to train on to this power, where that is less than what is left of it by "
        "decay_power: where every node has a target, less has to be held back",
    )
    teacher_temperature: float = Field(
        default=1.0, gt=0, description="softmax temperature of the distillation term"
    )
    teacher_features: float = Field(
        default=0.0,
        ge=0,
        description="weight in the loss of how unlike hidden features are to the teacher's, by "
        "linear CKA of what the last conv is given",
    )
    teacher_schedule: Literal["constant", "rising", "falling"] = Field(
        default="constant",
        description="how the share of the distillation term changes over denoising and over "
        "retraining: not at all, up from 0, or down to 0",
    )
    edge_score: str = Field(
        default="divergence",
        description="what edges are scored by: how much they bring predictions near those of the "
        "dense model (divergence), the same class predicted at both ends (agreement), how far the "
        "ends' predictions disagree (influence), the gradient of the loss by unit gates "
        "(unit-gate), low degrees (degree), like features (similarity), the sum of ranks by "
        "several of these ('divergence+degree'), or gates that are trained with the model "
        f"(trained-gate); default without a teacher: {UNTAUGHT}",
    )
    edge_l1: float = Field(default=0.0, ge=0, description="L1 penalty on trained edge gates")
    weight_l1: float = Field(
        default=0.0, ge=0, description="ugs: L1 penalty on the soft masks of weights"
    )
    mask_epochs: int = Field(
        default=200,
        ge=1,
        description="epochs of training masks: those of a round in ugs and wd-glt, at most so many "
        "in early-bird, all in teddy",
    )
    fixed_epochs: int = Field(
        default=0,
        ge=0,
        description="ugs and wd-glt: epochs of retraining under binary masks after each round, for "
        "information only",
    )
    rounds: int = Field(default=20, ge=1, description="ugs and wd-glt: rounds of pruning")
    edge_rate: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="ugs and wd-glt: share of the remaining edges pruned a round; default: so that "
        "the last round arrives at edge_sparsity",
    )
    weight_rate: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="ugs and wd-glt: share of the remaining weights pruned a round; default: so "
        "that the last round arrives at weight_sparsity",
    )
    mask_distance: float = Field(
        default=0.1,
        gt=0,
        description="early-bird: stop when masks differ less from the last three, in units of the "
        "first difference",
    )
    wasserstein_weight: float = Field(
        default=0.1, ge=0, description="wd-glt: weight of the distance between predicted classes"
    )
    edge_diversity: float = Field(
        default=0.0, ge=0, description="weight of the diversity regulariser of trained edge gates"
    )
    edge_values: Literal["binary", "learned"] = Field(
        default="binary",
        description="whether kept edges are plain, or each has a weight trained while retraining",
    )
    edge_rule: Literal["keep", "learned", "degree", "random"] = Field(
        default="keep",
        description="what is done with edges that the search did not see: keep them, or remove "
        "as large a share of them, by degree and features as learned in the search, by degree, "
        "or at random",
    )
    inductive: bool = Field(
        default=False,
        description="keep validation and test nodes, their edges and labels from teacher and "
        "search; masks are chosen on a holdout of the training nodes and by what the teacher says "
        "of visible nodes without a label",
    )
    holdout: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="share of the training nodes that masks are chosen on with inductive",
    )
    sampler: Literal["none", "neighbor", "cluster", "given"] = Field(
        default="none",
        description="train in mini-batches: on the neighbourhoods of random nodes or pairs "
        "(neighbor), on random clusters of the graph (cluster, needs pymetis), or on what a loader "
        "yields (given, Python only); evaluation stays exact",
    )
    fanout: tuple[int, ...] = Field(
        default=(15, 10),
        description="sampler neighbor: incoming edges that a node draws, by hop from the seeds, "
        "one number for each conv of the model; -1 takes all",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        description=BATCH_SIZE,
    )
    num_clusters: int = Field(
        default=100, ge=1, description="sampler cluster: clusters that the graph is cut into"
    )
    batch_clusters: int = Field(
        default=10, ge=1, description="sampler cluster: clusters in a training step"
    )
    sparse_inputs: bool = Field(
        default=True,
        description="compute with features and graph as sparse matrices where proven equal",
    )

    def weight_decay_at(self, density: float, labelled: float = 1.0) -> float:
        """Weight decay of a model that keeps that share of the prunable weights.

        Args:
            density: The share.
            labelled: Share of the nodes that have a label to train on, where a teacher speaks of
                the others.
        """
        by_labels = math.pow(labelled, self.teacher_decay)
        return self.weight_decay * min(math.pow(density, self.decay_power), by_labels)

    def lr_at(self, density: float) -> float:
        """Learning rate of such a model."""
        return self.lr * math.pow(density, -self.lr_power)

    def dropout_factor_at(self, density: float) -> float:
        """What its probabilities of dropout are multiplied by."""
        return math.pow(density, self.dropout_power)

    @field_validator("fanout", mode="before")
    @classmethod
    def _split_fanout(cls, value: object) -> object:
        """One string holds numbers separated by commas."""
        return value.split(",") if isinstance(value, str) else value

    @field_validator("fanout")
    @classmethod
    def _check_fanout(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or any(number < -1 or number == 0 for number in value):
            raise ValueError(
                "fanout must be numbers of at least 1, or -1 for all, one for each hop, such as "
                f"15,10 (got {','.join(map(str, value))!r})"
            )
        return value

    @model_validator(mode="after")
    def _check_sampler(self) -> Settings:
        if self.batch_size is not None and self.sampler != "neighbor":
            raise ValueError(
                f"batch_size={self.batch_size} needs sampler='neighbor' (got {self.sampler!r}); "
                "link prediction without one takes it as an option of its task"
            )
        for name, sampler in _SAMPLING.items():
            if (
                self.sampler != sampler
                and getattr(self, name) != type(self).model_fields[name].default
            ):
                raise ValueError(f"{name} needs sampler={sampler!r} (got {self.sampler!r})")
        if self.sampler == "none":
            return self
        for name, wanted in (("teacher_features", 0.0), ("recalibrate", False)):
            if getattr(self, name) != wanted:
                raise ValueError(
                    f"{name} must be {wanted} with a sampler, since it compares whole graphs (got "
                    f"{getattr(self, name)})"
                )
        return self

    @field_validator("edge_score")
    @classmethod
    def _check_edge_score(cls, value: str) -> str:
        parts = value.split("+")
        if value != TRAINED_GATE and (len({*parts}) < len(parts) or {*parts} - {*EDGE_SCORES}):
            raise ValueError(
                f"edge_score must be {', '.join(EDGE_SCORES)}, several of these with a '+' between "
                f"them, or {TRAINED_GATE} (got {value!r})"
            )
        return value

    @model_validator(mode="after")
    def _check_edge_values(self) -> Settings:
        if self.inductive and self.edge_values == "learned":
            raise ValueError(
                "edge_values='learned' has no weight for the edges of unseen nodes; "
                "use edge_values='binary' with inductive"
            )
        return self

    @model_validator(mode="after")
    def _check_warmup(self) -> Settings:
        events = num_events(self.denoise_steps, self.interval)
        if self.warmup_events > events:
            raise ValueError(
                f"warmup_events must be at most {events}, the swaps of {self.denoise_steps} "
                f"denoise_steps at interval {self.interval} (got {self.warmup_events})"
            )
        return self


NEUTRAL: dict[str, Any] = {
    "channel_power": 0.0,
    "channel_cap": 1.0,
    "weight_pattern": "none",
    "swap_schedule": "cosine",
    "warmup_schedule": "linear",
    "decay_power": 0.0,
    "dropout_power": 0.0,
    "lr_power": 0.0,
    "denoise_patience": 0,
    "recalibrate": False,
    "teacher_phases": "both",
    "teacher_propagation": 0.0,
    "teacher_decay": 0.0,
    "teacher_features": 0.0,
    "teacher_schedule": "constant",
    "sampler": "none",
    "fanout": [15, 10],
    "batch_size": None,
    "num_clusters": 100,
    "batch_clusters": 10,
}
"""Values of settings that were not always there, as JSON has them, each of which leaves a run as it
was before."""


def num_events(steps: int, interval: int) -> int:
    """Number of denoising events in ``steps`` steps; there is none after the last step."""
    return max(0, (steps - 1) // interval)


def as_input_error(error: ValidationError) -> InputError:
    """The error to be raised for what pydantic found in a user's settings or options."""
    where, problem = first_problem(error)
    if where.endswith("_sparsity"):
        found = str(error.errors()[0]["input"])[:MOST_SHOWN]
        return BudgetError(f"{where} must be in [0, 1) (got {found})")
    return InputError(f"{where}: {problem}" if where else problem)


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The first of pydantic's findings: its place, which may be empty, and what is wrong."""
    finding = error.errors()[0]
    where = ".".join(str(part) for part in finding["loc"])[:MOST_SHOWN]
    message = finding["msg"]
    if finding["type"] == "value_error":  # raised by a validator of ours
        return where, message.removeprefix("Value error, ")
    return where, f"{message[0].lower()}{message[1:]} (got {shown(finding['input'])})"
