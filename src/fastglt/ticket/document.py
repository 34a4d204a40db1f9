"""The JSON document in the header of a ticket file, and what a valid one looks like."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastglt import _strict_json

SCHEMA_VERSION = 2
"""Version of the layout that this code writes; it reads all up to this one."""

_SINCE_VERSION_2 = frozenset({"edge_weight", "edge_list", "edge_rule"})

DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
"""Element types that a ticket may hold, by their name in a safetensors header."""

_Model = TypeVar("_Model", bound=BaseModel)
_MAX_DIMENSIONS = 32
_MAX_ELEMENTS = 2**48


def _reasonable(shape: list[int]) -> list[int]:
    """Refuse shapes that would overflow torch's 64-bit sizes even where a dimension is 0."""
    if len(shape) > _MAX_DIMENSIONS or math.prod(max(size, 1) for size in shape) > _MAX_ELEMENTS:
        raise ValueError(f"absurd shape {shape[:8]}")
    return shape


Count = Annotated[int, Field(ge=0, lt=2**63)]
Digest = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
Shape = Annotated[list[Count], AfterValidator(_reasonable)]


class _Strict(BaseModel):
    """No conversions (``"1"`` is no number) and no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())


class GraphFingerprint(_Strict):
    """See :func:`fastglt.ticket.fingerprint.graph_fingerprint`."""

    num_nodes: Count
    num_edges: Count
    edge_digest: Digest
    feature_digest: Digest | None


class ModelFingerprint(_Strict):
    """See :func:`fastglt.ticket.fingerprint.model_fingerprint`."""

    parameters: dict[str, Shape]
    modules: dict[str, str]
    tied: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ties_lead_to_parameters(self) -> ModelFingerprint:
        for alias, first in self.tied.items():
            if first not in self.parameters or alias in self.parameters:
                raise ValueError(f"{alias!r} must be a further name of a parameter (got {first!r})")
        return self


Finite = Annotated[float, Field(allow_inf_nan=False)]


class KeepRule(_Strict):
    """Keep every new edge."""

    name: Literal["keep"] = "keep"


class DegreeRule(_Strict):
    """Keep a new edge iff ``(d_u * d_v)^-0.5 >= threshold``; see ``degree_rule``."""

    name: Literal["degree"]
    threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class RankWeights(_Strict):
    """What new edges are ranked by, see :mod:`fastglt.ticket.edge_rule`."""

    degree: Finite = 0.0
    inverse_degree: Finite = 0.0
    similarity: Finite = 0.0
    noise: Finite = 0.0


class RankedRule(_Strict):
    """Remove the share of the new edges with the lowest weighted ranks; see ``ranked_rule``."""

    name: Literal["ranked"]
    sparsity: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
    weights: RankWeights


EdgeRule = Annotated[KeepRule | DegreeRule | RankedRule, Field(discriminator="name")]


class RuleHolder(_Strict):
    """An edge rule on its own."""

    edge_rule: EdgeRule


class EdgeListSpec(_Strict):
    """How the searched graph's edge list is stored, see :mod:`fastglt.ticket.edge_list`."""

    form: Literal["full", "half"]
    dtype: Literal["I32", "I64"]


class TensorSpec(_Strict):
    """Shape and element type of one entry of the state dicts."""

    dtype: Literal["BOOL", "U8", "I8", "I16", "I32", "I64", "F16", "BF16", "F32", "F64"]
    shape: Shape


class TicketDocument(_Strict):
    """Everything in a ticket file that is not a tensor.

    ``state`` describes the rewind and the trained state dict, which have the same entries. Where
    ``full_init`` is false, only the kept entries of masked parameters are stored in the former.
    ``edge_weight`` is the element type of the learned edge weights, None where there are none.
    ``sha256`` is the checksum of all other fields and the tensors.
    """

    schema_version: Literal[1, 2]
    sha256: Digest
    full_init: bool
    mask_shapes: dict[str, Shape]
    state: dict[str, TensorSpec]
    graph: GraphFingerprint
    model: ModelFingerprint
    settings: dict[str, Any]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    history: list[dict[str, Any]]
    edge_weight: Literal["F16", "BF16", "F32", "F64"] | None = None
    edge_list: EdgeListSpec | None = None
    edge_rule: EdgeRule = Field(default_factory=KeepRule)

    @model_validator(mode="after")
    def _fields_are_those_of_the_version(self) -> TicketDocument:
        expected = _SINCE_VERSION_2 if self.schema_version >= 2 else frozenset()
        if wrong := sorted(expected ^ (self.model_fields_set & _SINCE_VERSION_2)):
            verb = "needs" if wrong[0] in expected else "does not have"
            raise ValueError(f"schema version {self.schema_version} {verb} the field {wrong[0]!r}")
        return self

    @model_validator(mode="after")
    def _tied_entries_are_alike(self) -> TicketDocument:
        for alias, first in self.model.tied.items():
            if alias not in self.state or self.state.get(first) != self.state[alias]:
                raise ValueError(f"the tied names {alias!r} and {first!r} must be alike in state")
            if alias in self.mask_shapes:
                raise ValueError(f"the mask of {alias!r} must have the name {first!r}")
        return self

    @model_validator(mode="after")
    def _masks_fit_the_state(self) -> TicketDocument:
        for name, shape in self.mask_shapes.items():
            if name not in self.state or self.state[name].shape != shape:
                raise ValueError(f"the mask of {name!r} fits no entry of the state dict")
        return self

    def as_written(self) -> dict[str, Any]:
        """The document as it stands in the file, without its own checksum."""
        return self.model_dump(exclude={"sha256"}, exclude_unset=True)


def parse_document(text: str) -> TicketDocument:
    """Read and validate the JSON document of a ticket file.

    Args:
        text: The document.

    Returns:
        TicketDocument: The validated content.

    Raises:
        ValueError: Not strict JSON, another schema version, or a field missing, unknown or of the
            wrong type; the message names the first such field.
    """
    content = _strict_json.loads(text)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"it has no valid schema_version (got {version!r})")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"it has schema version {version}, this fastglt reads up to {SCHEMA_VERSION}; "
            "upgrade fastglt"
        )
    return validate(TicketDocument, content)


def validate(kind: type[_Model], content: object) -> _Model:
    """Validate ``content`` and put pydantic's findings into one sentence.

    Args:
        kind: The pydantic model to validate against.
        content: Parsed JSON.

    Returns:
        The validated model.

    Raises:
        ValueError: The first finding, with its place and how many more there are.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_context=False)
        place = ".".join(str(part) for part in first["loc"])
        more = f" (and {len(others)} more)" if others else ""
        raise ValueError(f"{place or 'document'}: {first['msg']}{more}") from None
