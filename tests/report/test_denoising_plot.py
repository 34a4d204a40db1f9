"""The plot of a denoising run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastglt.errors import InputError, OutputPathError
from fastglt.report.denoising_plot import FORMATS, denoising_plot, save_denoising_plot

METRICS = {"metric": "accuracy", "val_dense": 0.8}


def history(edge_sparsity=0.3, metric=0.7):
    return [
        {
            "step": step,
            "share": 0.3 / step,
            "edge_sparsity": edge_sparsity,
            "weight_sparsity": 0.9,
            "edge_overlap": 0.9,
            "weight_overlap": 0.6,
            "metric": metric,
        }
        for step in (10, 20, 30)
    ]


def labels(axes):
    return axes.get_legend_handles_labels()[1]


def test_lines_hold_the_events_and_axes_are_labelled():
    upper, lower = denoising_plot(history(), METRICS).axes
    assert list(upper.lines[0].get_xdata()) == [10, 20, 30]
    assert list(upper.lines[0].get_ydata()) == [0.7] * 3
    assert upper.lines[1].get_linestyle() == "--"
    assert set(upper.lines[1].get_ydata()) == {0.8}
    assert upper.get_ylabel() == "validation accuracy"
    assert lower.get_xlabel() == "denoising step"
    assert len(labels(lower)) == 3


def test_a_mask_that_prunes_nothing_has_no_line():
    lower = denoising_plot(history(edge_sparsity=0.0), METRICS).axes[1]
    assert not any("edges" in label for label in labels(lower))
    assert any("weights" in label for label in labels(lower))


def test_without_metrics_there_is_still_a_plot(tmp_path):
    save_denoising_plot(tmp_path / "p.png", history(metric=None), {})
    assert (tmp_path / "p.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("suffix", "magic"),
    [(".png", b"\x89PNG"), (".PNG", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")],
)
def test_formats_are_what_their_names_say(suffix, magic, tmp_path):
    path = tmp_path / f"plot{suffix}"
    save_denoising_plot(path, history(), METRICS)
    assert path.read_bytes().startswith(magic)
    assert suffix.lower() in FORMATS
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_plotted(tmp_path):
    with pytest.raises(InputError, match="no denoising events"):
        save_denoising_plot(tmp_path / "p.png", [], METRICS)
    with pytest.raises(InputError, match=r"must end in one of \.png, \.pdf, \.svg"):
        save_denoising_plot(tmp_path / "p.jpeg", history(), METRICS)
    with pytest.raises(OutputPathError):
        save_denoising_plot(tmp_path / "none" / "p.png", history(), METRICS)
    assert list(tmp_path.iterdir()) == []


def test_pyplot_is_not_involved():
    code = (
        "import sys; from fastglt.report.denoising_plot import denoising_plot as plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"plot({history()!r}, {METRICS!r})\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
