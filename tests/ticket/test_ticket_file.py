from __future__ import annotations

import contextlib
import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ticket_samples import (
    EDGES,
    KEEP,
    free_ticket,
    make_data,
    make_model,
    make_ticket,
    same_bits,
    same_ticket,
)

from fastglt import _strict_json
from fastglt.errors import InputError, OutputPathError, TicketFileError
from fastglt.ticket import Ticket
from fastglt.ticket import format as ticket_format
from fastglt.ticket.packing import checksum

if TYPE_CHECKING:
    from collections.abc import Callable

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8]
SHAPES = st.lists(st.integers(0, 5), max_size=3)
SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make_ticket().save(tmp_path / "t.safetensors")
    return tmp_path / "t.safetensors"


def random_bits(shape: list[int], dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Any bit pattern at all, NaN payloads and denormals included."""
    generator = torch.Generator().manual_seed(seed)
    count = torch.empty(shape).numel() * dtype.itemsize
    raw = torch.randint(0, 256, (count,), dtype=torch.uint8, generator=generator)
    return raw.view(dtype).reshape(shape)


@SHARED_FOLDER
@given(
    entries=st.lists(st.tuples(SHAPES, st.sampled_from(DTYPES), st.booleans()), max_size=4),
    num_edges=st.integers(0, 20),
    seed=st.integers(0, 2**20),
    full_init=st.booleans(),
)
@example(  # a single kept value, which is a signalling NaN
    entries=[([], torch.float32, False), ([2], torch.float16, True)],
    num_edges=0,
    seed=46,
    full_init=True,
)
def test_round_trip_is_bit_exact(
    tmp_path: Path, entries: list[Any], num_edges: int, seed: int, full_init: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    init: dict[str, torch.Tensor] = {}
    trained: dict[str, torch.Tensor] = {}
    masks: dict[str, torch.Tensor] = {}
    for index, (shape, dtype, masked) in enumerate(entries):
        name = f"layer.{index}/ü"
        init[name] = random_bits(shape, dtype, seed + index)
        trained[name] = random_bits(shape, dtype, seed - index)
        if masked:
            masks[name] = torch.rand(shape, generator=generator) < 0.5
            trained[name] = trained[name].masked_fill(~masks[name], 0)
    edge_keep = torch.rand(num_edges, generator=generator) < 0.5
    ticket = free_ticket(masks, init, trained, edge_keep)
    ticket.save(tmp_path / "t", full_init=full_init)
    loaded = Ticket.load(tmp_path / "t")
    assert loaded.init_is_full == full_init
    if full_init:
        assert same_ticket(loaded, ticket)
        return
    assert all(same_bits(loaded.trained_state[name], trained[name]) for name in trained)
    for name, value in init.items():
        kept = masks.get(name, torch.ones(value.shape, dtype=torch.bool))
        assert same_bits(loaded.init_state[name], value.masked_fill(~kept, 0))


def test_buffers_and_json_round_trip(saved: Path) -> None:
    ticket, loaded = make_ticket(), Ticket.load(saved)
    assert same_ticket(ticket, loaded)
    counter = loaded.trained_state["norms.0.module.num_batches_tracked"]
    assert counter.dtype == torch.int64
    assert counter.shape == ()


def test_non_contiguous_and_boolean_entries_round_trip(tmp_path: Path) -> None:
    state = {"w": torch.arange(6.0).reshape(2, 3).t(), "flags": torch.tensor([True, False])}
    ticket = free_ticket({}, state, state, torch.tensor([], dtype=torch.bool))
    ticket.save(tmp_path / "t")
    assert same_ticket(Ticket.load(tmp_path / "t"), ticket)


def test_loaded_ticket_can_be_saved_again_as_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    Ticket.load(saved).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_negative_zero_of_a_pruned_weight_comes_back_as_zero(tmp_path: Path) -> None:
    mask = torch.tensor([True, True, False])
    state = {"w": torch.tensor([-0.0, 1.0, -0.0])}
    free_ticket({"w": mask}, state, state, torch.tensor([True])).save(tmp_path / "t")
    loaded = Ticket.load(tmp_path / "t").trained_state["w"]
    assert torch.signbit(loaded).tolist() == [True, False, False]
    assert torch.equal(loaded, state["w"])


def test_lean_file_is_smaller_and_stays_marked_as_lean(tmp_path: Path) -> None:
    ticket = make_ticket()
    ticket.save(tmp_path / "full")
    ticket.save(tmp_path / "lean", full_init=False)
    assert (tmp_path / "lean").stat().st_size < (tmp_path / "full").stat().st_size
    lean = Ticket.load(tmp_path / "lean")
    lean.save(tmp_path / "again")
    assert not Ticket.load(tmp_path / "again").init_is_full
    for name, value in lean.rewind(make_model(3)).state_dict().items():
        assert torch.equal(value, ticket.rewind(make_model(3)).state_dict()[name])


def test_only_kept_values_of_the_trained_state_are_stored(saved: Path) -> None:
    stored = safetensors.torch.load_file(saved)
    for name, mask in make_ticket().weight_masks.items():
        assert stored[f"trained/{name}"].shape == (int(mask.sum()),)
        assert stored[f"weight_mask/{name}"].numel() == (mask.numel() + 7) // 8


def test_loaded_tensors_do_not_depend_on_the_file(saved: Path) -> None:
    loaded = Ticket.load(saved)
    saved.write_bytes(b"\0" * saved.stat().st_size)
    assert same_ticket(loaded, make_ticket())


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_interrupted_save_keeps_the_old_file(
    saved: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    before = saved.read_bytes()

    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise stop

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(stop):
        make_ticket(metrics={}).save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_full_disk_is_an_output_path_error(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputPathError, match="No space left"):
        make_ticket().save(saved)
    with pytest.raises(OutputPathError, match="does not exist"):
        make_ticket().save(saved.parent / "missing" / "t")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"test": float("nan")}}, r"\['metrics'\]\['test'\] must be finite \(got nan"),
        ({"metrics": {"a": [1, float("inf")]}}, r"\['a'\]\[1\] must be finite"),
        ({"settings": {"t": torch.ones(1)}}, r"must be None, bool.*got torch.Tensor"),
        ({"settings": {1: 2}}, "keys of .* must be strings"),
        ({"settings": {"n": 2**64}}, "64 bits"),
        ({"provenance": {"\ud800": 1}}, "lone surrogate"),
        ({"provenance": {"a": "\ud800"}}, "lone surrogate"),
    ],
)
def test_what_json_cannot_hold_is_refused_and_nothing_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_ticket(**changes).save(tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_endless_structures_are_refused(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    with pytest.raises(InputError, match="nested deeper"):
        make_ticket(settings=loop).save(tmp_path / "t")


def test_revived_weight_is_noticed_on_save(tmp_path: Path) -> None:
    ticket = make_ticket()
    ticket.trained_state["convs.0.lin.weight"].fill_(1)
    with pytest.raises(InputError, match="exactly 0"):
        ticket.save(tmp_path / "t")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_strict_json_round_trips(value: object) -> None:
    assert _strict_json.loads(_strict_json.dumps(value, "value")) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[1e999]", "must be finite"),
        ("[" * 100_000, "nested deeper"),
        ("[" * 99 + "]" * 99, "nested deeper"),
        ('"\\ud800"', "lone surrogate"),
        ("{", "Expecting property name"),
    ],
)
def test_strict_json_refuses_what_others_repair(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _strict_json.loads(text)


def load_or_error(path: Path) -> Ticket | None:
    """The ticket, or None after a proper error; anything else is a failure of the test."""
    try:
        return Ticket.load(path)
    except TicketFileError as error:
        message = str(error)
    assert repr(str(path)) in message
    return None


@settings(SHARED_FOLDER, max_examples=400, deadline=None)
@given(
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3)
)
def test_flipped_bytes_never_give_another_ticket(
    saved: Path, flips: list[tuple[float, int]]
) -> None:
    content = bytearray(saved.read_bytes())
    for position, change in flips:
        content[int(position * len(content))] ^= change
    target = saved.with_name("flipped")
    target.write_bytes(content)
    loaded = load_or_error(target)
    assert loaded is None or same_ticket(loaded, make_ticket())


@settings(SHARED_FOLDER, max_examples=200, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), tail=st.binary(max_size=9))
def test_truncated_or_longer_file_is_refused(saved: Path, share: float, tail: bytes) -> None:
    content = saved.read_bytes()
    target = saved.with_name("cut")
    target.write_bytes(content[: int(share * len(content))])
    assert load_or_error(target) is None
    target.write_bytes(content + tail)
    assert (load_or_error(target) is None) == bool(tail)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200), as_header=st.booleans())
def test_arbitrary_bytes_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, as_header: bool
) -> None:
    target = tmp_path_factory.getbasetemp() / "noise"
    target.write_bytes(struct.pack("<Q", len(content)) + content if as_header else content)
    assert load_or_error(target) is None


def read_parts(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_parts(path: Path, header: str, body: bytes) -> None:
    raw = header.encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + body)


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]) -> None:
    """Tamper with document and tensors, and make the checksum right again."""
    header, _ = read_parts(path)
    document = json.loads(header["__metadata__"]["fastglt"])
    tensors = safetensors.torch.load_file(path)
    tensors = {name: value.clone() for name, value in tensors.items()}
    change(document, tensors)
    document.pop("sha256", None)
    with contextlib.suppress(InputError):  # no JSON: refused before the checksum is looked at
        document["sha256"] = checksum(document, tensors)
    metadata = {"fastglt": json.dumps(document)}
    path.write_bytes(safetensors.torch.save(tensors, metadata=metadata))


W = "convs.0.lin.weight"
TAMPERING: list[tuple[Callable[[Any, Any], Any], str]] = [
    (lambda d, t: d.update(schema_version=3), "schema version 3.*upgrade fastglt"),
    (lambda d, t: d.update(schema_version=0), "no valid schema_version"),
    (lambda d, t: d.update(schema_version=True), "no valid schema_version"),
    (lambda d, t: d.update(schema_version="1"), "no valid schema_version"),
    (lambda d, t: d.pop("schema_version"), "no valid schema_version"),
    (lambda d, t: d.pop("metrics"), "metrics: Field required"),
    (lambda d, t: d.update(extra=1), "extra: Extra inputs"),
    (lambda d, t: d.update(metrics=[]), "metrics: Input should be a valid dict"),
    (lambda d, t: d.update(history={}), "history: Input should be a valid list"),
    (lambda d, t: d.update(full_init="yes"), "full_init: Input should be a valid bool"),
    (lambda d, t: d["metrics"].update(edge_sparsity="x"), "must be a number"),
    (lambda d, t: d["metrics"].update(a=float("nan")), "NaN is not a JSON number"),
    (lambda d, t: d["graph"].update(num_edges=-9), "graph.num_edges"),
    (lambda d, t: d["graph"].update(num_edges="9"), "graph.num_edges"),
    (lambda d, t: d["graph"].update(num_edges=9.0), "graph.num_edges"),
    (lambda d, t: d["graph"].update(num_edges=99), r"'edge_keep' must have shape \[13\]"),
    (lambda d, t: d["graph"].update(num_edges=2**62), "'edge_keep' must have shape"),
    (lambda d, t: d["graph"].update(edge_digest="0"), "graph.edge_digest"),
    (lambda d, t: d["model"].update(parameters={"w": [1]}), "parameter 'w' of shape"),
    (lambda d, t: d["mask_shapes"].update({W: [2**40, 2**40]}), "absurd shape"),
    (lambda d, t: d["mask_shapes"].update({W: [0, 2**62]}), "absurd shape"),
    (lambda d, t: d["mask_shapes"].update({W: [1] * 100}), "absurd shape"),
    (lambda d, t: d["mask_shapes"].update({W: [4, 5]}), "fits no entry"),
    (lambda d, t: d["mask_shapes"].update(nope=[1]), "fits no entry"),
    (lambda d, t: d["mask_shapes"].pop(W), "does not belong into it"),
    (lambda d, t: d["state"].pop("convs.0.bias"), "does not belong into it"),
    (lambda d, t: d["state"][W].update(dtype="F64"), "must be F64 .got F32"),
    (lambda d, t: d["state"][W].update(dtype="C64"), "dtype: Input should be"),
    (lambda d, t: d["state"]["convs.0.bias"].update(shape=[1, 5]), "must have shape"),
    (lambda d, t: t.pop("edge_keep"), "'edge_keep' is missing"),
    (lambda d, t: t.pop(f"init/{W}"), "is missing"),
    (lambda d, t: t.update(more=torch.ones(1)), "'more' does not belong"),
    (lambda d, t: t["edge_keep"].fill_(255), "bits set after its last entry"),
    (lambda d, t: t[f"weight_mask/{W}"].fill_(255), "bits set after its last entry"),
    (lambda d, t: t[f"weight_mask/{W}"].zero_(), "must hold the 0 kept values"),
    (lambda d, t: t.update({f"trained/{W}": torch.ones(3)}), "kept values"),
    (lambda d, t: t.update({f"trained/{W}": torch.ones(5, 4)}), "kept values"),
    (lambda d, t: t.update({f"init/{W}": torch.ones(5, 4).int()}), "must be F32"),
]


@pytest.fixture
def saved_with_all(tmp_path: Path) -> Path:
    """A file with every optional tensor in it."""
    ticket = make_ticket(edge_weight=torch.ones(sum(KEEP)), edge_list=torch.tensor(EDGES))
    ticket.save(tmp_path / "t.safetensors")
    return tmp_path / "t.safetensors"


TAMPERING_OF_ALL: list[tuple[Callable[[Any, Any], Any], str]] = [
    (lambda d, t: d.pop("edge_rule"), "version 2 needs the field 'edge_rule'"),
    (lambda d, t: d.pop("edge_list"), "version 2 needs the field 'edge_list'"),
    (lambda d, t: d.update(schema_version=1), "version 1 does not have the field 'edge_list'"),
    (lambda d, t: d.update(edge_rule={"name": "drop"}), "edge_rule: .*'drop'"),
    (lambda d, t: d.update(edge_rule={"name": "degree"}), "threshold: Field required"),
    (lambda d, t: d.update(edge_rule={"name": "degree", "threshold": 2.0}), "threshold: "),
    (lambda d, t: d.update(edge_rule=None), "edge_rule"),
    (lambda d, t: d.update(edge_weight="I64"), "edge_weight: "),
    (lambda d, t: d.update(edge_weight="F64"), "'edge_weight' must be F64 .got F32"),
    (lambda d, t: d.update(edge_weight=None), "'edge_weight' does not belong"),
    (lambda d, t: t.pop("edge_weight"), "'edge_weight' is missing"),
    (lambda d, t: t.update(edge_weight=torch.ones(4)), "edge_weight must have shape .5."),
    (lambda d, t: t.update(edge_weight=torch.ones(5, 1)), "edge_weight must have shape .5."),
    (lambda d, t: t["edge_weight"].fill_(float("nan")), "edge_weight must be finite"),
    (lambda d, t: d.update(edge_list=None), "'edge_list' does not belong"),
    (lambda d, t: d["edge_list"].update(form="third"), "edge_list.form"),
    (lambda d, t: d["edge_list"].update(dtype="I8"), "edge_list.dtype"),
    (lambda d, t: d["edge_list"].update(dtype="I64"), "'edge_list' must be I64 .got I32"),
    (lambda d, t: d["edge_list"].update(form="half"), "edge_list must be that of the searched"),
    (lambda d, t: t.pop("edge_list"), "'edge_list' is missing"),
    (lambda d, t: t["edge_list"].zero_(), "edge_list must be that of the searched graph"),
    (lambda d, t: t.update(edge_list=t["edge_list"][:, 1:].contiguous()), "has 9 edges, this"),
    (lambda d, t: t.update(edge_list=t["edge_list"].reshape(-1)), "must be .2, num_edges."),
    (lambda d, t: t.update(edge_list=t["edge_list"].t().contiguous()), "must be .2, num_edges."),
    (lambda d, t: d["model"].update(tied={"other": W}), "'other' and .* must be alike"),
    (lambda d, t: d["model"].update(tied={"other": "w"}), "must be a further name"),
    (lambda d, t: d["model"].update(tied={W: W}), "must be a further name"),
]


@pytest.mark.parametrize(("change", "message"), TAMPERING_OF_ALL)
def test_tampering_with_optional_fields_is_refused(
    saved_with_all: Path, change: Callable[[Any, Any], Any], message: str
) -> None:
    rewrite(saved_with_all, change)
    with pytest.raises(TicketFileError, match=message):
        Ticket.load(saved_with_all)


@pytest.mark.parametrize(("change", "message"), TAMPERING)
def test_tampering_is_refused_with_the_reason(
    saved: Path, change: Callable[[Any, Any], Any], message: str
) -> None:
    rewrite(saved, change)
    with pytest.raises(TicketFileError, match=message) as caught:
        Ticket.load(saved)
    assert str(saved) in str(caught.value)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON document."""
    pairs = enumerate(value) if isinstance(value, list) else getattr(value, "items", list)()
    return [place for key, item in list(pairs) for place in [(value, key), *places(item)]]


@settings(SHARED_FOLDER, max_examples=300, deadline=None)
@given(where=st.integers(0, 10**6), value=json_values)
def test_any_value_anywhere_in_the_document_loads_or_is_refused(
    saved_with_all: Path, where: int, value: object
) -> None:
    def replace(document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        everywhere = places(document)
        container, key = everywhere[where % len(everywhere)]
        container[key] = value

    target = saved_with_all.with_name("tampered")
    target.write_bytes(saved_with_all.read_bytes())
    rewrite(target, replace)
    loaded = load_or_error(target)
    if loaded is not None:
        loaded.save(target)
        assert same_ticket(Ticket.load(target), loaded)
        repr(loaded)


def test_rewriting_without_a_change_loads(saved: Path) -> None:
    rewrite(saved, lambda document, tensors: None)
    assert same_ticket(Ticket.load(saved), make_ticket())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"test":0.5', '"test":0.9', "checksum mismatch"),
        ('"sha256":"', '"other":"', "sha256: Field required"),
        ('"sha256":"', '"sha256":"0', "sha256: String should match"),
    ],
)
def test_document_changed_without_its_checksum_is_refused(
    saved: Path, old: str, new: str, message: str
) -> None:
    header, body = read_parts(saved)
    metadata = header["__metadata__"]
    assert old in metadata["fastglt"]
    metadata["fastglt"] = metadata["fastglt"].replace(old, new)
    write_parts(saved, json.dumps(header), body)
    with pytest.raises(TicketFileError, match=message):
        Ticket.load(saved)


def test_header_tricks_are_refused(saved: Path) -> None:
    header, body = read_parts(saved)
    text = json.dumps(header)
    entry = json.dumps(header["edge_keep"])
    document = json.dumps(header["__metadata__"]["fastglt"])
    absurd = {**header, "edge_keep": {**header["edge_keep"], "shape": [0, 2**63]}}
    late = {**header, "edge_keep": {**header["edge_keep"], "data_offsets": [0, 10**15]}}
    for tricked, message in [
        (text[:-1] + f', "edge_keep": {entry}}}', "'edge_keep' occurs twice"),
        (text.replace('"fastglt":', f'"fastglt": {document}, "fastglt":', 1), "occurs twice"),
        (json.dumps(absurd), "edge_keep.shape"),
        (json.dumps(late), "offset"),
        (json.dumps({**header, "__metadata__": 3}), "not a ticket"),
        (json.dumps({**header, "__metadata__": {"fastglt": 3}}), "metadata.fastglt"),
        (json.dumps({**header, "__metadata__": {"fastglt": "[" * 99_999}}), "nested deeper"),
        (json.dumps({**header, "__metadata__": {"fastglt": "[]"}}), "schema_version"),
        (json.dumps({**header, "a": 1}), "tensors.a"),
        ("[" + text + "]", "not a safetensors file"),
    ]:
        write_parts(saved, tricked, body)
        with pytest.raises(TicketFileError, match=message):
            Ticket.load(saved)


def test_boolean_bytes_other_than_0_and_1_are_refused(tmp_path: Path) -> None:
    state = {"flags": torch.tensor([True, False])}
    free_ticket({}, state, state, torch.tensor([True])).save(tmp_path / "t")
    bad = torch.tensor([2, 0], dtype=torch.uint8).view(torch.bool)
    rewrite(tmp_path / "t", lambda document, tensors: tensors.update({"init/flags": bad}))
    with pytest.raises(TicketFileError, match="neither true nor false"):
        Ticket.load(tmp_path / "t")


def test_announced_header_is_not_allocated(saved: Path) -> None:
    content = saved.read_bytes()
    for length in (2**63, 2**64 - 1, len(content), 0):
        saved.write_bytes(struct.pack("<Q", length) + content[8:])
        assert load_or_error(saved) is None


def test_foreign_and_missing_files_are_named(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    torch.save({"w": torch.ones(2)}, tmp_path / "model.pt")
    (tmp_path / "notes.txt").write_text("The best run so far\n")
    (tmp_path / "empty").touch()
    for path, message in [
        (tmp_path / "model.safetensors", "is not a ticket: it is a safetensors file without 'fa"),
        (tmp_path / "model.pt", "is not a ticket: it is not a safetensors file; give a file that"),
        (tmp_path / "notes.txt", "is not a ticket: it is not a safetensors file; give a file that"),
        (tmp_path / "empty", r"is not a ticket: it is too short for one \(0 bytes\)"),
        (tmp_path / "absent", "no such file"),
        (tmp_path / "absent" / "absent", "no such file"),
        (tmp_path, "not a regular file"),
        ("a\0b", "."),
    ]:
        with pytest.raises(TicketFileError, match=message):
            Ticket.load(path)


def test_a_ticket_cut_off_in_its_header_is_truncated(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:100])
    with pytest.raises(TicketFileError, match=r"it is truncated \(its header is .* copy the file"):
        Ticket.load(saved)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TicketFileError, match="not a regular file"):
        Ticket.load(tmp_path / "pipe")


def test_loading_executes_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a pickle was opened")

    for module, name in (("pickle", "load"), ("pickle", "loads"), ("torch", "load")):
        monkeypatch.setattr(f"{module}.{name}", forbidden)
    monkeypatch.setattr("builtins.eval", forbidden)
    monkeypatch.setattr("builtins.exec", forbidden)
    assert same_ticket(Ticket.load(saved), make_ticket())


def test_a_loaded_ticket_applies(saved: Path) -> None:
    model, data = Ticket.load(saved).apply(make_model(3), make_data())
    expected, _ = make_ticket().apply(make_model(3), make_data())
    assert torch.equal(model(data.x, data.edge_index), expected(data.x, data.edge_index))


def test_an_oversized_header_is_refused_on_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticket_format, "MAX_HEADER_BYTES", 100)
    with pytest.raises(InputError, match="100 MB"):
        make_ticket().save(tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_a_message_does_not_repeat_pages_of_a_file(saved: Path) -> None:
    tensors, metadata = safetensors.torch.load_file(saved), _metadata(saved)
    tensors["x" * 100_000] = torch.zeros(1)
    safetensors.torch.save_file(tensors, saved, metadata=metadata)
    with pytest.raises(TicketFileError, match="cannot be loaded") as error:
        Ticket.load(saved)
    assert len(str(error.value)) < 1000 + len(str(saved))


def _metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "pt") as file:
        return file.metadata()
