"""Models that a ticket is put on: lazy ones, and those that torch cannot copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from ticket_samples import make_data, make_model, make_ticket
from torch import Tensor, nn
from torch_geometric.nn import ARMAConv, GATConv, GMMConv, SAGEConv

from fastglt.errors import ModelError, TicketMismatchError
from fastglt.gating import initialize_lazy
from fastglt.ticket import Ticket
from fastglt.training.loop import clone_state
from helpers import states_equal

if TYPE_CHECKING:
    from collections.abc import Callable


class Net(nn.Module):
    """One conv, one linear layer; lazy or not."""

    def __init__(self, conv: nn.Module, linear: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.linear = linear

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        if isinstance(self.conv, (GMMConv)):
            hidden = self.conv(x, edge_index, torch.full((edge_index.size(1), 1), 0.5))
        else:
            hidden = self.conv(x, edge_index)
        out: Tensor = self.linear(hidden.relu())
        return out


CONVS: dict[str, Callable[[], nn.Module]] = {
    "sage": lambda: SAGEConv((-1, -1), 5),
    "gat": lambda: GATConv(-1, 5),
    "arma": lambda: ARMAConv(-1, 5, num_stacks=2, num_layers=2),
    "gmm": lambda: GMMConv(-1, 5, dim=1, kernel_size=2),
}


@pytest.mark.parametrize("name", CONVS)
def test_a_lazy_model_gets_its_shapes_from_the_ticket(name: str) -> None:
    data = make_data()
    model = Net(CONVS[name](), nn.LazyLinear(3))
    initialize_lazy(model, lambda lazy: lazy(data.x, data.edge_index))
    masks = {"linear.weight": torch.rand(3, 5) < 0.5}
    ticket = Ticket.from_masks(model, data, weight_masks=masks)
    expected = ticket.apply_weights(model)(data.x, data.edge_index)

    lazy = Net(CONVS[name](), nn.LazyLinear(3))
    for used in (ticket.apply(lazy, data)[0], ticket.apply_weights(lazy), ticket.rewind(lazy)):
        assert torch.equal(used(data.x, data.edge_index), expected)
        assert torch.count_nonzero(used.linear.weight[~masks["linear.weight"]]) == 0
        assert type(used.linear) is nn.Linear
    assert isinstance(lazy.linear, nn.LazyLinear)
    assert lazy.linear.has_uninitialized_params()


def test_a_lazy_model_of_another_architecture_is_refused_by_name() -> None:
    data = make_data()
    model = Net(SAGEConv(4, 5), nn.Linear(5, 3))
    ticket = Ticket.from_masks(model, data)
    cases = {
        "'linear.weight' has shape .3, 5. in the ticket and .4, 5.": Net(
            SAGEConv((-1, -1), 5), nn.LazyLinear(4)
        ),
        "'conv.lin_l.weight' has shape .5, 4. in the ticket and .6, 4.": Net(
            SAGEConv((-1, -1), 6), nn.LazyLinear(3)
        ),
        "'conv.lin.weight' is in this model but not in the ticket": Net(
            GATConv(-1, 5), nn.Linear(5, 3)
        ),
    }
    for message, other in cases.items():
        with pytest.raises(TicketMismatchError, match=message):
            ticket.apply(other, data)


def test_a_model_that_torch_cannot_copy_is_refused() -> None:
    ticket = make_ticket()
    with pytest.warns(FutureWarning, match="weight_norm"):
        model = nn.utils.weight_norm(nn.Linear(4, 3))
    for use in (ticket.apply_weights, ticket.rewind):
        with pytest.raises(ModelError, match="cannot be copied, since its 'weight' is computed"):
            use(model)
        with pytest.raises(ModelError, match="got the class Linear"):
            use(nn.Linear)  # type: ignore[arg-type]


@torch.compiler.set_stance("force_eager")
def test_a_ticket_of_a_compiled_model_fits_a_plain_one_and_back() -> None:
    sample, data, plain = make_ticket(), make_data(), make_model(3)
    compiled = torch.compile(make_model(3), backend="eager")
    content: dict[str, Any] = {"edge_keep": sample.edge_keep}
    for key in ("weight_masks", "init_state", "trained_state"):
        tensors = getattr(sample, key)
        content[key] = {f"_orig_mod.{name}": value for name, value in tensors.items()}
    before = clone_state(compiled)
    assert content["trained_state"].keys() == compiled.state_dict().keys()
    for ticket in (
        Ticket.create(compiled, data, **content),
        Ticket.from_masks(compiled, data, **content),
    ):
        assert ticket.model == sample.model
        assert ticket.weight_masks.keys() == sample.weight_masks.keys()
        assert states_equal(ticket.apply(plain, data)[0].state_dict(), sample.trained_state)
    applied, kept = sample.apply(compiled, data)
    expected = sample.apply(plain, data)[0]
    assert type(applied) is type(compiled)
    assert torch.equal(
        applied.eval()(kept.x, kept.edge_index), expected.eval()(kept.x, kept.edge_index)
    )
    assert states_equal(compiled.state_dict(), before)
    rewound = sample.rewind(compiled).state_dict()
    assert all(
        torch.equal(rewound[f"_orig_mod.{name}"], value)
        for name, value in sample.rewind(plain).state_dict().items()
    )
