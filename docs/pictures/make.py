"""Draws the pictures of the documentation: ``python docs/pictures/make.py``.

Plain SVG, written by hand from lists of coordinates, so that it is the same everywhere. Every
picture has a card of its own to stand on and follows the reader's light or dark setting, with
titles and descriptions for those who cannot see it. The numbers in them are those of the preset
``default``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastglt.schedules import cosine_swap_fraction
from fastglt.settings import Settings

Point = tuple[float, float]
Edge = tuple[int, int]

FOLDER = Path(__file__).parent
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2733 }
.title { font-size: 15px; font-weight: 600 }
.small { font-size: 12px }
.code { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
.muted { fill: #5b6675 }
.card { fill: #ffffff; stroke: #d5dae1 }
.box { fill: #f2f5f9; stroke: #c3cad4 }
.node { fill: #1f2733 }
.kept { stroke: #2f6db5; stroke-width: 2 }
.gone { stroke: #b9c1cc; stroke-width: 1.2; stroke-dasharray: 2 4 }
.dropped { stroke: #c2502f; stroke-width: 2.4; stroke-dasharray: 6 4 }
.grown { stroke: #12804c; stroke-width: 3.2 }
.full { fill: #2f6db5; stroke: #2f6db5 }
.empty { fill: none; stroke: #b9c1cc }
.axis { stroke: #5b6675; stroke-width: 1.2 }
.flow { stroke: #5b6675; stroke-width: 1.6; fill: none }
.hint { stroke: #12804c; stroke-width: 1.6; stroke-dasharray: 5 4; fill: none }
.head { fill: #5b6675 }
.head-hint { fill: #12804c }
.line { fill: none }
.number { font-weight: 600; fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e9ef }
  .muted { fill: #a3adbb }
  .card { fill: #1b1f27; stroke: #3a4250 }
  .box { fill: #272d38; stroke: #4a5466 }
  .node { fill: #e6e9ef }
  .kept { stroke: #6ea8e8 }
  .gone { stroke: #566073 }
  .dropped { stroke: #f0856b }
  .grown { stroke: #4cc38a }
  .full { fill: #6ea8e8; stroke: #6ea8e8 }
  .empty { stroke: #566073 }
  .axis { stroke: #a3adbb }
  .flow { stroke: #a3adbb }
  .hint { stroke: #4cc38a }
  .head { fill: #a3adbb }
  .head-hint { fill: #4cc38a }
  .number { fill: #1b1f27 }
}"""

NODES: list[Point] = [
    (0.08, 0.30), (0.27, 0.08), (0.30, 0.42), (0.10, 0.72), (0.33, 0.78), (0.52, 0.24),
    (0.52, 0.60), (0.55, 0.94), (0.74, 0.10), (0.76, 0.44), (0.78, 0.80), (0.95, 0.60),
]  # fmt: skip
EDGES: list[Edge] = [
    (0, 1), (0, 2), (1, 2), (2, 3), (0, 3), (3, 4), (2, 4), (1, 5), (2, 5), (2, 6), (4, 6),
    (4, 7), (6, 7), (5, 6), (5, 8), (5, 9), (8, 9), (6, 9), (6, 10), (9, 10), (7, 10), (9, 11),
    (10, 11),
]  # fmt: skip
CUT_EDGES: set[Edge] = {(0, 1), (2, 3), (2, 5), (4, 7), (5, 8), (6, 9), (9, 10), (2, 6)}
SWAPPED_EDGES: tuple[set[Edge], set[Edge]] = ({(3, 4), (9, 11)}, {(2, 3), (5, 8)})
"""Dropped and regrown by denoising."""

LAYERS = (5, 6, 3)
KEPT_WEIGHTS: set[tuple[int, int, int]] = {
    (0, 0, 0), (0, 0, 2), (0, 1, 1), (0, 2, 2), (0, 2, 4), (0, 3, 3), (0, 4, 4), (0, 4, 5),
    (1, 0, 0), (1, 1, 0), (1, 2, 1), (1, 4, 1), (1, 4, 2), (1, 5, 2),
}  # fmt: skip
"""Layer, from, to."""
SWAPPED_WEIGHTS = ({(0, 4, 5), (0, 2, 4)}, {(0, 3, 4), (0, 3, 2)})


def main() -> None:
    """Write every picture next to this file."""
    for name, picture in PICTURES.items():
        (FOLDER / name).write_text(picture(), encoding="utf-8")


def svg(width: int, height: int, title: str, description: str, body: list[str]) -> str:
    """A whole file: a card with the body on it."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{title}</title>',
        f'<desc id="desc">{description}</desc>',
        f"<style>{STYLE}\n</style>",
        "<defs>",
        *(arrow_head(name) for name in ("head", "head-hint")),
        "</defs>",
        f'<rect class="card" x="1" y="1" width="{width - 2}" height="{height - 2}" rx="10"/>',
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def arrow_head(name: str) -> str:
    """The marker at the end of an arrow."""
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path class="{name}" d="M0 0 8 4 0 8z"/></marker>'
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """One line of text."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{words}</text>'


def line(start: Point, end: Point, kind: str) -> str:
    """A straight line."""
    (x1, y1), (x2, y2) = start, end
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def arrow(path: str, kind: str = "flow") -> str:
    """A path with a head at its end."""
    head = "head-hint" if kind == "hint" else "head"
    return f'<path class="{kind}" d="{path}" marker-end="url(#{head})"/>'


def box(x: float, y: float, width: float, height: float, kind: str = "box") -> str:
    """A rounded rectangle."""
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'
    )


def dot(center: Point, radius: float, kind: str = "node") -> str:
    """A circle."""
    return f'<circle class="{kind}" cx="{center[0]:.1f}" cy="{center[1]:.1f}" r="{radius:g}"/>'


def graph(x: float, y: float, width: float, height: float, kinds: dict[Edge, str]) -> list[str]:
    """The example graph; edges without a kind are left out."""
    places = [(x + width * u, y + height * v) for u, v in NODES]
    order = sorted(kinds, key=lambda edge: kinds[edge] != "gone")
    edges = [line(places[u], places[v], kinds[u, v]) for u, v in order]
    return edges + [dot(place, 5) for place in places]


def network(
    x: float, y: float, width: float, height: float, kinds: dict[tuple[int, int, int], str]
) -> list[str]:
    """The example network, its layers from left to right."""
    places = [
        [(x + width * layer / (len(LAYERS) - 1), y + height * (unit + 0.5) / count)
         for unit in range(count)]
        for layer, count in enumerate(LAYERS)
    ]  # fmt: skip
    order = sorted(kinds, key=lambda weight: kinds[weight] != "gone")
    weights = [
        line(places[layer][source], places[layer + 1][target], kinds[layer, source, target])
        for layer, source, target in order
    ]
    return weights + [dot(place, 4) for units in places for place in units]


def all_weights() -> list[tuple[int, int, int]]:
    """Every weight of the example network."""
    return [
        (layer, source, target)
        for layer in range(len(LAYERS) - 1)
        for source in range(LAYERS[layer])
        for target in range(LAYERS[layer + 1])
    ]


def overview() -> str:
    """Dense, cut, denoised, retrained."""
    cut_edges = {edge: "gone" if edge in CUT_EDGES else "kept" for edge in EDGES}
    cut_weights = {w: "kept" if w in KEPT_WEIGHTS else "gone" for w in all_weights()}
    swapped_edges = swapped(cut_edges, SWAPPED_EDGES)
    swapped_weights = swapped(cut_weights, SWAPPED_WEIGHTS)
    panels = [
        ("1  Train densely", dict.fromkeys(EDGES, "kept"), dict.fromkeys(all_weights(), "kept"),
         ("every edge, every weight:", "baseline and teacher")),
        ("2  Cut once", cut_edges, cut_weights,
         ("after a few epochs, to the", "target sparsities")),
        ("3  Denoise", swapped_edges, swapped_weights,
         ("drop the worst kept, regrow", "the best pruned, again and again")),
        ("4  Rewind and retrain", after(swapped_edges), after(swapped_weights),
         ("from the initial weights,", "with what is left")),
    ]  # fmt: skip
    body = []
    for index, (title, edges, weights, caption) in enumerate(panels):
        left = 18 + 236 * index
        body += [text(left + 100, 32, title, "title", "middle")]
        body += graph(left + 4, 54, 192, 128, edges)
        body += network(left + 24, 204, 152, 104, weights)
        body += [text(left + 100, 334 + 17 * row, words, "small muted", "middle")
                 for row, words in enumerate(caption)]  # fmt: skip
        if index:
            body.append(arrow(f"M{left - 30} 180 H{left - 8}"))
    for row, (kind, words) in enumerate(
        [("kept", "kept"), ("gone", "pruned"), ("dropped", "dropped"), ("grown", "regrown")]
    ):
        left = 250 + 125 * row
        body += [line((left, 379), (left + 34, 379), kind), text(left + 42, 383, words, "small")]
    return svg(
        944, 400, "How a graph lottery ticket is found",
        "Four panels with a graph above and a neural network below. First all edges and weights "
        "are there. Then most are pruned by one cut. Denoising drops some kept ones and regrows "
        "some pruned ones. At the end only the kept edges and weights are left, and they are "
        "retrained from the initial weights.",
        body,
    )  # fmt: skip


def swapped(kinds: dict[Any, str], change: tuple[set[Any], set[Any]]) -> dict[Any, str]:
    """The kinds with some dropped and some regrown."""
    dropped, grown = change
    return kinds | dict.fromkeys(dropped, "dropped") | dict.fromkeys(grown, "grown")


def after(kinds: dict[Any, str]) -> dict[Any, str]:
    """What is left after a swap."""
    return {key: "kept" for key, kind in kinds.items() if kind in ("kept", "grown")}


def masks() -> str:
    """An edge mask is a shorter edge_index; a weight mask has zeros that stay zeros."""
    body = [text(30, 34, "Edges: pairs stand or fall together", "title")]
    places = {0: (60.0, 90.0), 1: (190.0, 70.0), 2: (205.0, 190.0), 3: (70.0, 205.0)}
    pairs = [((0, 1), "kept"), ((1, 2), "gone"), ((2, 3), "kept"), ((0, 3), "kept")]
    body += [line(places[u], places[v], kind) for (u, v), kind in pairs]
    body.append('<circle class="kept line" cx="60" cy="74" r="15"/>')
    for name, place in places.items():
        body += [dot(place, 11), f'<text class="number" x="{place[0]:g}" y="{place[1] + 4.5:g}" '
                 f'text-anchor="middle">{name}</text>']  # fmt: skip
    body += [
        text(240, 74, "self-loops are", "small muted"),
        text(240, 90, "never pruned", "small muted"),
    ]
    body += _edge_index()
    body += [text(500, 34, "Weights: what is pruned stays 0", "title")]
    body += _weight_matrix()
    return svg(
        944, 400, "Edge masks and weight masks",
        "Left, a graph of four nodes, in which the pair of nodes 1 and 2 is pruned: both of its "
        "columns are gone from edge_index, and the self-loop of node 0 stays. Right, a weight "
        "matrix of which a quarter of the entries is kept and the others are zero.",
        body,
    )  # fmt: skip


def _edge_index() -> list[str]:
    columns = [(0, 0, True), (0, 1, True), (1, 0, True), (1, 2, False), (2, 1, False),
               (2, 3, True), (3, 2, True), (3, 0, True), (0, 3, True)]  # fmt: skip
    body = [text(30, 268, "edge_index", "code"), text(30, 338, "kept", "code")]
    for place, (source, target, kept) in enumerate(columns):
        left = 116 + 34 * place
        kind = "code" if kept else "code muted"
        body.append(box(left, 248, 28, 50))
        body += [text(left + 14, y, str(node), kind, "middle")
                 for y, node in ((267, source), (289, target))]  # fmt: skip
        body.append(dot((left + 14, 334), 7, "full" if kept else "empty"))
        if not kept:
            body.append(line((left - 2, 302), (left + 30, 244), "dropped"))
    body.append(text(30, 374, "The model is called on the columns that are kept, and on no others.",
                     "small muted"))  # fmt: skip
    return body


def _weight_matrix() -> list[str]:
    kept = {(0, 2), (0, 9), (1, 5), (1, 6), (1, 11), (2, 0), (2, 7), (3, 3), (3, 4), (3, 10),
            (4, 1), (4, 8), (5, 2), (5, 6), (5, 7), (6, 9), (6, 0), (6, 4)}  # fmt: skip
    body = []
    for row in range(7):
        for column in range(12):
            kind = "full" if (row, column) in kept else "empty"
            body.append(
                f'<rect class="{kind}" x="{500 + 34 * column}" y="{62 + 34 * row}" '
                'width="26" height="26" rx="4"/>'
            )
    body += [
        text(500, 328, "kept: trained as usual", "small"),
        text(500, 350, "pruned: set to 0 after every optimizer step, its moments cleared", "small"),
        text(500, 374, "The masks live outside the model.", "small muted"),
    ]
    return body


def schedule() -> str:
    """Share of the kept components that is swapped, by step."""
    settings = Settings()
    steps, interval, alpha = settings.denoise_steps, settings.interval, settings.alpha
    left, bottom, width, height = 90, 300, 800, 210

    def place(step: float) -> Point:
        share = alpha / 2 if steps == 0 else cosine_swap_fraction(int(step), steps, alpha)
        return left + width * step / steps, bottom - height * share / alpha

    curve = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, range(steps + 1)))
    body = [
        text(30, 34, "Share of the kept components that is swapped", "title"),
        line((left, bottom), (left + width, bottom), "axis"),
        line((left, bottom), (left, bottom - height - 10), "axis"),
        f'<polyline class="kept line" points="{curve}"/>',
    ]
    for step in range(interval, steps, interval):
        x, y = place(step)
        body += [line((x, bottom), (x, y), "gone"), dot((x, y), 5)]
        body += [text(x, bottom + 20, str(step), "small", "middle")]
    for part in (0.0, 0.5, 1.0):
        body.append(
            text(left - 12, bottom - height * part + 4, f"{alpha * part:.0%}", "small", "end")
        )
    body += [
        text(left + width, bottom + 20, str(steps), "small", "middle"),
        text(left + width / 2, bottom + 46, "training step on the kept graph", "muted", "middle"),
        text(left + 330, 92, "at each dot: evaluate on validation, drop the worst,", "small"),
        text(left + 330, 110, "regrow as many; the counts stay exact", "small"),
    ]
    return svg(
        944, 370, "The denoising schedule",
        f"A cosine that falls from {alpha:.0%} at step 0 to 0 at step {steps}, with a dot every "
        f"{interval} steps, at which components are swapped.",
        body,
    )  # fmt: skip


def stages() -> str:
    """What starts from which weights, and what is read when."""
    settings = Settings()
    body = [text(30, 34, "Where the weights come from", "title")]
    body += [
        box(30, 70, 120, 56), text(90, 94, "initial weights", "", "middle"),
        text(90, 113, "kept for the rewind", "small muted", "middle"),
    ]  # fmt: skip
    boxes = [
        (190, 70, 170, "dense run", f"up to {settings.dense_epochs} epochs"),
        (190, 190, 120, "pre-training", f"{settings.pretrain_epochs} epochs"),
        (340, 190, 100, "one-shot cut", "to the target"),
        (470, 190, 140, "denoising", f"up to {settings.denoise_steps} steps"),
        (650, 190, 110, "best masks", "by validation"),
        (470, 310, 170, "retraining", f"up to {settings.retrain_epochs} epochs"),
        (690, 310, 224, "ticket", "test split read once, at the end"),
    ]
    for x, y, width, title, caption in boxes:
        body += [box(x, y, width, 56), text(x + width / 2, y + 24, title, "", "middle"),
                 text(x + width / 2, y + 43, caption, "small muted", "middle")]  # fmt: skip
    body += [
        arrow("M150 98 H184"),
        arrow("M110 126 V218 H184"),
        arrow("M70 126 V338 H464"),
        arrow("M310 218 H334"), arrow("M440 218 H464"), arrow("M610 218 H644"),
        arrow("M705 246 V272 H530 V304"),
        arrow("M640 338 H684"),
        text(90, 330, "rewind", "small"),
        text(715, 266, "masks", "small"),
        arrow("M360 98 H540 V184", "hint"),
        arrow("M250 126 V184", "hint"),
        arrow("M540 98 H802 V292 H610 V304", "hint"),
        text(384, 90, "teacher: soft predictions guide search and retraining", "small"),
    ]  # fmt: skip
    return svg(
        944, 390, "The stages of a search",
        "From the initial weights start the dense run, the pre-training and, as the rewind, the "
        "retraining. Pre-training, one-shot cut and denoising give masks, of which the best on "
        "validation are retrained under. The dense model is the teacher of search and "
        "retraining. The test split is read once, at the end.",
        body,
    )  # fmt: skip


PICTURES = {
    "overview.svg": overview,
    "masks.svg": masks,
    "schedule.svg": schedule,
    "stages.svg": stages,
}

if __name__ == "__main__":
    main()
