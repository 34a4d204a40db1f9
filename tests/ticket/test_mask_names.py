"""Weight masks in and out: plain and in the naming of torch.nn.utils.prune."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from ticket_samples import EDGES, KEEP, NUM_NODES, make_data, make_masks, make_model, make_ticket
from torch import Tensor, nn
from torch.nn.utils import prune
from torch_geometric.data import Data
from torch_geometric.nn import GCN, GIN, GINConv
from torch_geometric.nn import Linear as PyGLinear

from fastglt.errors import InputError, ModelError
from fastglt.ticket import Ticket, masks_from_state_dict

NAMES = ("0.weight", "2.weight")


def make_plain(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


def random_masks(seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(make_plain().named_parameters())
    return {name: torch.rand(parameters[name].shape, generator=generator) < 0.4 for name in NAMES}


def pruned_by_torch(model: nn.Sequential, masks: dict[str, Tensor]) -> nn.Sequential:
    result = copy.deepcopy(model)
    for name, mask in masks.items():
        module, _, parameter = name.rpartition(".")
        prune.custom_from_mask(result.get_submodule(module), parameter, mask)
    return result


def make_plain_data() -> Data:
    return Data(x=torch.ones(NUM_NODES, 4), edge_index=torch.tensor(EDGES))


def same_masks(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_masks_of_a_model_pruned_by_torch_are_read() -> None:
    masks, model = random_masks(), make_plain()
    pruned = pruned_by_torch(model, masks)
    assert same_masks(masks_from_state_dict(pruned.state_dict(), model), masks)
    assert same_masks(masks_from_state_dict(pruned.state_dict(), pruned), masks)
    assert same_masks(masks_from_state_dict(dict(pruned.named_buffers()), model), masks)
    assert same_masks(masks_from_state_dict(masks, pruned), masks)


class Mixed(nn.Module):
    """PyG's ``Linear``, torch's, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GINConv(nn.Sequential(PyGLinear(4, 5), nn.BatchNorm1d(5)), eps=0.5)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        out: Tensor = self.last(self.conv(x, edge_index))
        return out


def make_pyg(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return {"gcn": lambda: GCN(4, 5, 2, 3), "gin": lambda: GIN(4, 5, 2, 3), "mixed": Mixed}[name]()


@pytest.mark.parametrize("name", ["gcn", "gin", "mixed"])
def test_masks_that_pyg_leaves_out_of_a_state_dict_are_taken_from_the_model(name: str) -> None:
    pruned, data = make_pyg(name), make_plain_data()
    data.x = torch.randn(data.x.shape)
    layers = [module for module in pruned.modules() if isinstance(module, (PyGLinear, nn.Linear))]
    for layer in layers:
        prune.random_unstructured(layer, "weight", amount=0.5)
    masks = masks_from_state_dict(pruned.state_dict(), pruned)
    assert len(masks) == len(layers)
    assert same_masks(masks, masks_from_state_dict(dict(pruned.named_buffers()), make_pyg(name)))

    pruned.eval()
    optimizer = torch.optim.SGD(pruned.parameters(), lr=0.1)
    pruned(data.x, data.edge_index).sum().backward()
    optimizer.step()  # PyG's state dict does not have this step before the next call
    tickets = [
        Ticket.from_masks(pruned, data),
        Ticket.from_masks(pruned, data, weight_masks=pruned.state_dict()),
    ]
    expected = pruned(data.x, data.edge_index)
    for ticket in tickets:
        assert same_masks(ticket.weight_masks, masks)
        applied = ticket.apply(make_pyg(name, 5).eval(), data)[0]
        assert torch.equal(applied(data.x, data.edge_index), expected)
    with pytest.raises(InputError, match="holds weights that the model has pruned"):
        masks_from_state_dict(make_pyg(name).state_dict(), pruned)
    with pytest.raises(InputError, match=r"are in dict\(model.named_buffers\(\)\)"):
        masks_from_state_dict(make_pyg(name).state_dict(), make_pyg(name))


def test_what_is_no_module_has_no_masks() -> None:
    for use in (
        lambda: masks_from_state_dict({}, GCN),
        lambda: Ticket.from_masks(GCN, make_plain_data()),
    ):
        with pytest.raises(ModelError, match="got the class GCN"):
            use()


def test_plain_masks_may_be_numbers_and_are_copied() -> None:
    masks, model = random_masks(), make_plain()
    for dtype in (torch.bool, torch.float32, torch.float64, torch.uint8, torch.int64):
        given = {name: mask.to(dtype, copy=True) for name, mask in masks.items()}
        read = masks_from_state_dict(given, model)
        assert same_masks(read, masks)
        given["0.weight"].zero_()
        assert same_masks(read, masks)
    assert masks_from_state_dict({}, model) == {}


def test_a_boolean_mask_beside_torch_names_is_not_passed_over() -> None:
    masks = random_masks()
    state = {"0.weight_mask": masks["0.weight"].float(), "2.weight": masks["2.weight"]}
    assert same_masks(masks_from_state_dict(state, make_plain()), masks)


def test_a_ticket_survives_torchs_prune_and_back() -> None:
    masks, model, data = random_masks(), make_plain(), make_plain_data()
    pruned = pruned_by_torch(model, masks)
    state = pruned.state_dict()
    ticket = Ticket.from_masks(model, data, weight_masks=state, trained_state=state)
    assert same_masks(ticket.weight_masks, masks)
    for name, value in ticket.trained_state.items():
        expected = model.state_dict()[name]
        assert torch.equal(value, expected * masks[name] if name in masks else expected)
    back = pruned_by_torch(make_plain(5), {name: torch.ones_like(masks[name]) for name in masks})
    back.load_state_dict(ticket.mask_state_dict("torch", originals=True), strict=True)
    x = torch.randn(7, 4)
    assert torch.equal(back.eval()(x), pruned.eval()(x))
    assert torch.equal(ticket.apply_weights(make_plain(5)).eval()(x), pruned(x))
    for name in masks:
        prune.remove(back.get_submodule(name[0]), "weight")
    assert torch.equal(back(x), pruned(x))


def test_masks_alone_prune_another_model_through_torch() -> None:
    ticket = Ticket.from_masks(make_plain(), make_plain_data(), weight_masks=random_masks())
    other = pruned_by_torch(
        make_plain(3), {n: torch.ones_like(m) for n, m in random_masks().items()}
    )
    state = ticket.mask_state_dict("torch")
    assert state.keys() == {"0.weight_mask", "2.weight_mask"}
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert unexpected == []
    assert not {name for name in missing if name.endswith("_mask")}
    x = torch.randn(7, 4)
    assert torch.equal(other.eval()(x), pruned_by_torch(make_plain(3), random_masks()).eval()(x))


def test_written_masks_have_torchs_type_and_are_copies() -> None:
    model = make_plain().double()
    ticket = Ticket.from_masks(model, make_plain_data(), weight_masks=random_masks())
    expected = pruned_by_torch(model, random_masks()).state_dict()
    named = ticket.mask_state_dict("torch", originals=True)
    assert named.keys() == expected.keys()
    assert all(value.dtype == expected[name].dtype for name, value in named.items())
    plain = ticket.mask_state_dict()
    assert same_masks(plain, random_masks())
    for value in (*named.values(), *plain.values()):
        value.zero_()
    assert same_masks(ticket.weight_masks, random_masks())
    assert bool((ticket.trained_state["1.weight"] == 1).all())


def test_formats_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match=r"must be \"plain\" or \"torch\" \(got 'numpy'\)"):
        make_ticket().mask_state_dict("numpy")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="originals must be False"):
        make_ticket().mask_state_dict("plain", originals=True)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"9.weight": torch.ones(5, 4)}, "masks['9.weight'] names no parameter of the model (it"),
        ({"9.weight_mask": torch.ones(5, 4)}, "masks['9.weight_mask'] names no parameter"),
        (
            {"0.weight_mask": torch.ones(5, 4), "9.weight_mask": torch.ones(5, 4)},
            "masks['9.weight_mask'] names no parameter",
        ),
        (
            {"0.weight_mask": torch.ones(5, 4), "9.weight": torch.ones(5, 4)},
            "masks['9.weight'] names no parameter",
        ),
        ({"1.running_mean": torch.ones(5).bool()}, "masks['1.running_mean'] names no param"),
        ({"0.weight_orig": torch.ones(5, 4)}, "masks['0.weight_orig'] names no parameter"),
        ({"0.weight": torch.ones(4, 5)}, "masks['0.weight'] must have shape [5, 4] (got [4, 5])"),
        ({"0.weight_mask": torch.ones(1)}, "masks['0.weight_mask'] must have shape [5, 4]"),
        ({"0.weight": torch.full((5, 4), 0.5)}, "must hold only 0 and 1 (got 0.5)"),
        ({"0.weight": torch.full((5, 4), float("nan"))}, "must hold only 0 and 1 (got nan)"),
        ({"0.weight": torch.full((5, 4), -1)}, "must hold only 0 and 1 (got -1)"),
        ({"0.weight": torch.ones(5, 4).to_sparse()}, "must be a dense tensor (got torch.sparse"),
        ({"0.weight": [[True]]}, "masks['0.weight'] must be a dense tensor (got list)"),
    ],
)
def test_masks_that_do_not_fit_are_refused_by_name(state: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        masks_from_state_dict(state, make_plain())


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight


def test_a_shared_parameter_has_one_mask() -> None:
    mask = torch.eye(3, dtype=torch.bool)
    for state in ({"b.weight": mask}, {"a.weight": mask, "b.weight": mask}):
        assert same_masks(masks_from_state_dict(state, Tied()), {"a.weight": mask})
    with pytest.raises(InputError, match=r"masks\['b.weight'\] must equal the mask of 'a.weight'"):
        masks_from_state_dict({"a.weight": mask, "b.weight": ~mask}, Tied())


def test_a_parameter_whose_own_name_looks_like_torchs() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_orig, self.gate_mask = (
                nn.Parameter(torch.ones(2)),
                nn.Parameter(torch.ones(3)),
            )

    masks = {"gate_mask": torch.tensor([True, False, True])}
    assert same_masks(masks_from_state_dict(masks, Odd()), masks)
    masks = {"gate_orig": torch.tensor([True, False])}
    assert same_masks(masks_from_state_dict(masks, Odd()), masks)


def test_from_masks_fills_in_what_is_not_given() -> None:
    model, data = make_model(), make_data()
    masks = make_masks(model)
    before = copy.deepcopy(model.state_dict())
    ticket = Ticket.from_masks(model, data, weight_masks=masks)
    assert bool(ticket.edge_keep.all())
    assert ticket.settings == {"method": "given"}
    assert not ticket.is_lottery_ticket
    for name, value in before.items():
        expected = value * masks[name] if name in masks else value
        assert torch.equal(ticket.trained_state[name], expected)
        assert torch.equal(ticket.init_state[name], expected)
        assert torch.equal(model.state_dict()[name], value)
    bare = Ticket.from_masks(model, data, edge_keep=torch.tensor(KEEP), metrics={"test": 0.5})
    assert (bare.weight_masks, bare.num_edges_kept, bare.metrics) == ({}, sum(KEEP), {"test": 0.5})


def test_only_a_stated_rewind_from_given_states_is_a_lottery_ticket() -> None:
    sample, model, data = make_ticket(), make_model(), make_data()
    states = {"init_state": sample.init_state, "trained_state": sample.trained_state}
    given: dict[str, Any] = {"weight_masks": sample.weight_masks, **states}
    assert Ticket.from_masks(model, data, recover="rewind", **given).is_lottery_ticket
    assert not Ticket.from_masks(model, data, recover="finetune", **given).is_lottery_ticket
    assert not Ticket.from_masks(model, data, **given).is_lottery_ticket
    for missing in states:
        part = {name: value for name, value in given.items() if name != missing}
        with pytest.raises(InputError, match="must come with both init_state and trained_state"):
            Ticket.from_masks(model, data, recover="rewind", **part)
        with pytest.raises(InputError, match="must come with both init_state and trained_state"):
            Ticket.from_masks(model, data, settings={"recover": "rewind"}, **part)


def test_another_way_to_recover_is_refused() -> None:
    with pytest.raises(InputError, match=r'must be "rewind" or "finetune" \(got \'retrain\'\)'):
        Ticket.from_masks(make_model(), make_data(), recover="retrain")  # type: ignore[arg-type]


def test_an_initialisation_in_torchs_naming_keeps_its_pruned_weights() -> None:
    model, masks = make_plain(), random_masks()
    state = pruned_by_torch(model, masks).state_dict()
    ticket = Ticket.from_masks(
        model, make_plain_data(), weight_masks=state, init_state=state, trained_state=state
    )
    assert all(torch.equal(ticket.init_state[n], v) for n, v in model.state_dict().items())


def test_a_trained_state_that_was_not_masked_is_refused() -> None:
    model = make_model()
    with pytest.raises(InputError, match="exactly 0 where its mask is False"):
        Ticket.from_masks(
            model, make_data(), weight_masks=make_masks(model), trained_state=model.state_dict()
        )
