"""Shared parameters: one mask, every name of them masked and equal."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from ticket_samples import same_ticket
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from fastglt.errors import InputError
from fastglt.ticket import Ticket
from fastglt.ticket.fingerprint import model_fingerprint

MASK = torch.eye(4, dtype=torch.bool)
NAMES = ("first.lin.weight", "second.lin.weight")


class Recurrent(nn.Module):
    """The same weights in two layers."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = GCNConv(4, 4), GCNConv(4, 4)
        self.second.lin.weight = self.first.lin.weight

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)


def make_data() -> Data:
    return Data(x=torch.ones(3, 4), edge_index=torch.tensor([[0, 1, 2], [1, 0, 2]]))


def make_tied_ticket(**changes: object) -> Ticket:
    trained = Recurrent(1)
    with torch.no_grad():
        trained.first.lin.weight.masked_fill_(~MASK, 0)
    parts = {
        "weight_masks": {NAMES[0]: MASK},
        "init_state": Recurrent(0).state_dict(),
        "trained_state": trained.state_dict(),
    }
    return Ticket.from_masks(Recurrent(), make_data(), **(parts | changes))  # type: ignore[arg-type]


def test_the_fingerprint_names_who_is_tied_to_whom() -> None:
    fingerprint = model_fingerprint(Recurrent())
    assert fingerprint["tied"] == {NAMES[1]: NAMES[0]}
    assert NAMES[1] not in fingerprint["parameters"]


@pytest.mark.parametrize("full_init", [True, False])
def test_rewind_and_apply_mask_under_every_name(tmp_path: Path, full_init: bool) -> None:
    ticket = make_tied_ticket()
    ticket.save(tmp_path / "t", full_init=full_init)
    loaded = Ticket.load(tmp_path / "t")
    assert not full_init or same_ticket(loaded, ticket)
    for content in (ticket, loaded):
        for model, seed in (
            (content.rewind(Recurrent(5)), 0),
            (content.apply_weights(Recurrent()), 1),
        ):
            assert model.first.lin.weight is model.second.lin.weight
            assert torch.equal(model.first.lin.weight, Recurrent(seed).first.lin.weight * MASK)


def test_from_a_model_the_mask_holds_for_every_name() -> None:
    model = Recurrent(2)
    ticket = Ticket.from_masks(model, make_data(), weight_masks={NAMES[1]: MASK})
    assert ticket.weight_masks.keys() == {NAMES[0]}
    for name in NAMES:
        assert torch.equal(ticket.trained_state[name], model.first.lin.weight * MASK)


def test_a_shared_parameter_is_stored_once(tmp_path: Path) -> None:
    make_tied_ticket().save(tmp_path / "t")
    stored = safetensors.torch.load_file(tmp_path / "t").keys()
    assert {f"init/{NAMES[0]}", f"trained/{NAMES[0]}"} <= stored
    assert not {name for name in stored if name.endswith(NAMES[1])}


def test_names_that_disagree_are_refused() -> None:
    unmasked = Recurrent(1).state_dict()
    masked = unmasked | {NAMES[0]: unmasked[NAMES[0]] * MASK}
    with pytest.raises(InputError, match=r"trained_state\['second.lin.weight'\] must equal"):
        make_tied_ticket(trained_state=masked)
    other = Recurrent(0).state_dict()
    other[NAMES[1]] = other[NAMES[1]] + 1
    with pytest.raises(InputError, match=r"init_state\['second.lin.weight'\] must equal"):
        make_tied_ticket(init_state=other)


def test_a_mask_under_a_further_name_is_refused_by_create() -> None:
    ticket = make_tied_ticket()
    with pytest.raises(InputError, match=r"must have the parameter's name 'first.lin.weight'"):
        Ticket.create(
            Recurrent(),
            make_data(),
            edge_keep=ticket.edge_keep,
            weight_masks={NAMES[1]: MASK},
            init_state=ticket.init_state,
            trained_state=ticket.trained_state,
        )


def test_nan_under_both_names_counts_as_equal() -> None:
    state = Recurrent(0).state_dict()
    for name in NAMES:
        state[name] = state[name].clone().fill_(float("nan"))
    assert make_tied_ticket(init_state=state).init_state[NAMES[1]].isnan().all()
