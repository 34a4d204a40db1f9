"""Options come from the settings models, config files and presets, in that order of strength."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel

from fastglt.cli.app import build_command
from fastglt.cli.config_file import with_config
from fastglt.cli.options import (
    DENOISING_METHODS,
    FIND_SPECS,
    METHODS,
    MODELS,
    ConfigOptions,
)
from fastglt.cli.signature import parameters
from fastglt.errors import InputError, UnknownNameError
from fastglt.models import BACKBONES
from fastglt.search import METHODS as METHOD_ENTRIES
from fastglt.search.presets import PRESETS
from fastglt.settings import Settings
from fastglt.ticket import Ticket


@pytest.fixture
def find_help(cli, monkeypatch):
    """The text of ``fastglt find --help`` with all line breaks and indents as single blanks."""
    outcome = cli("find", "--help")
    assert outcome.code == 0
    # A word that was broken at its hyphen is joined again.
    return " ".join(outcome.out.split()).replace("- ", "-")


def test_names_in_the_help_are_those_of_the_registries():
    assert set(METHODS) == set(METHOD_ENTRIES)
    assert set(MODELS) == set(BACKBONES)
    assert set(METHODS) >= DENOISING_METHODS


@pytest.mark.parametrize("spec", [*FIND_SPECS, ConfigOptions])
def test_every_field_is_an_option_with_its_description(spec, find_help):
    for name, field in spec.model_fields.items():
        assert f"--{(field.alias or name).replace('_', '-')} " in find_help
        assert field.description.replace("- ", "-") in find_help


def test_defaults_that_differ_by_preset_are_shown(find_help):
    words = {True: "on", False: "off"}
    for name, value in PRESETS["paper"].items():
        default = Settings.model_fields[name].default
        if value != default and isinstance(value, (str, int)):
            shown = [words[one] if isinstance(one, bool) else one for one in (default, value)]
            assert "default: {} (paper: {})".format(*shown) in find_help
    assert "default: 120 (paper: 400)" in find_help
    assert "--teacher none|dense" in find_help


def test_no_argument_shows_the_help_and_version_the_version(cli):
    plain, asked = cli(), cli("--help")
    assert plain == asked
    assert plain.code == 0
    for command in ("find", "show", "eval", "datasets"):
        assert command in plain.out
    assert cli("--version").out.startswith("fastglt ")


def test_a_field_of_an_unknown_type_is_noticed():
    class Odd(BaseModel):
        values: list[int] = []

    with pytest.raises(TypeError, match=r"list\[int\]"):
        parameters((Odd,), {})


def test_building_the_command_twice_gives_the_same():
    first, second = build_command(), build_command()
    assert list(first.commands) == list(second.commands)


def test_an_optional_choice_can_be_an_option():
    class Choice(BaseModel):
        side: Literal["left", "right"] | None = None

    (parameter,) = parameters((Choice,), {}).parameters.values()
    assert parameter.default is None
    assert parameter.annotation.__metadata__[0].metavar == "left|right"


def config(tmp_path, text, name="run.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(cli, tmp_path):
    path = config(
        tmp_path,
        'dataset = "cora"\npreset = "paper"\nhidden = 4\nlayers = 1\nseed = 3\n'
        'dense-epochs = 1\nretrain_epochs = 1\ndenoise_steps = 2\ninterval = 7\nout = "a.st"\n',
    )
    outcome = cli("find", f"--config={path}", "--seed=9", "--layers=2", "--denoise-steps=1")
    assert outcome.code == 0, outcome.err
    settings = Ticket.load(tmp_path / "a.st").settings
    expected = {"seed": 9, "denoise_steps": 1, "interval": 7, "dense_epochs": 1, "teacher": "none"}
    assert {name: settings[name] for name in expected} == expected
    sizes = {"name": "gcn", "hidden": 4, "layers": 2, "dropout": 0.5}
    assert settings["model"] == {
        **sizes, "heads": None, "norm": "none", "embedding_dim": None,
    }  # fmt: skip


def test_the_command_line_switches_off_what_the_file_switches_on(cli, tmp_path):
    on = ("inductive", "keep_positives", "sparse_inputs")
    text = 'dataset = "cora"\nhidden = 4\ndense_epochs = 1\nretrain_epochs = 1\n'
    path = config(tmp_path, text + "".join(f"{name} = true\n" for name in on))
    off = [f"--no-{name.replace('_', '-')}" for name in on]
    outcome = cli("find", f"--config={path}", "--denoise-steps=1", "--out=a.st", *off)
    assert outcome.code == 0, outcome.err
    settings = Ticket.load(tmp_path / "a.st").settings
    assert (settings["inductive"], settings["sparse_inputs"]) == (False, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden = 4", "unknown option in .*run.toml 'hiden'; did you mean 'hidden'"),
        ('config = "x.toml"', "unknown option in .*run.toml 'config'"),
        ("lr = 0.1\nseed = = 3", "run.toml' is not valid TOML: .*line 2"),
        ("dense-epochs = 1\ndense_epochs = 2", "'dense_epochs' twice"),
        ("lr = 0.1\nlr = 0.2", "is not valid TOML"),
        ("seed = " + "9" * 5000, "is not valid TOML"),
        ("include = " + "[" * 5000, "is not valid TOML"),
    ],
)
def test_a_bad_config_file_is_named(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        with_config({"config": config(tmp_path, text)})


def test_an_unknown_key_is_an_unknown_name(tmp_path):
    with pytest.raises(UnknownNameError) as error:
        with_config({"config": config(tmp_path, "teachers = 1")})
    assert {"teacher", "hidden", "dataset", "root", "json"} <= set(error.value.available)


def test_a_config_file_that_is_missing_or_no_text(tmp_path):
    with pytest.raises(InputError, match=r"'.*none.toml' cannot be read: No such file"):
        with_config({"config": tmp_path / "none.toml"})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        with_config({"config": tmp_path / "binary.toml"})


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edge_sparsity = 2", "edge_sparsity must be in [0, 1) (got 2)"),
        ("[model]\nhidden = 3", "model: input should be a valid string"),
        ('hidden = "many"', "hidden: input should be a valid integer"),
        ('seed = "x"', "seed: input should be a valid integer"),
        ("dataset = 3", "dataset: input should be a valid string"),
        ("out = 3", "out: input is not a valid path"),
    ],
)
def test_bad_values_in_a_file_end_with_2(text, message, cli, tmp_path):
    path = config(tmp_path, text)
    outcome = cli("find", f"--config={path}", *(() if "dataset" in text else ("--dataset=cora",)))
    assert outcome.code == 2
    assert message in outcome.err


def test_config_is_an_option_of_its_own_and_not_a_key():
    assert list(ConfigOptions.model_fields) == ["config"]
