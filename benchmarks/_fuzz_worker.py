"""The child process of ``fuzz.py``: makes inputs by one engine and reads them under limits."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random


def main() -> None:
    """Run the engine that the command line names."""
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("target")
    top.add_argument("engine", choices=["hypothesis", "atheris"])
    top.add_argument("folder", type=Path, help="where counts and failures go")
    top.add_argument("--inputs", type=int, required=True)
    top.add_argument("--seed", type=int, required=True)
    args = top.parse_args()
    {"hypothesis": _by_hypothesis, "atheris": _by_atheris}[args.engine](args)


def _by_hypothesis(args: argparse.Namespace) -> None:
    """Generated from strategies: which files, which values are put in, the seed of the changes."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    from _fuzz_guard import Guard
    from _fuzz_targets import TARGETS

    target = TARGETS[args.target]
    seeds = target.seeds()
    guard = Guard(target, args.folder)
    guard.warm_up(seeds)
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=4,
    )

    @seed(args.seed)
    @settings(
        max_examples=args.inputs,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.sampled_from(seeds),
        st.sampled_from(seeds),
        st.lists(values, max_size=2),
        st.integers(0, 2**64 - 1),
    )
    def one(data: bytes, other: bytes, extra: list[object], number: int) -> None:
        guard.check(target.mutate(Random(number), data, other, extra))

    one()


def _by_atheris(args: argparse.Namespace) -> None:
    """Guided by the coverage of the reader; half of the changes know the format."""
    import atheris
    import torch_geometric  # noqa: F401  not to be instrumented

    with atheris.instrument_imports(include=["fastglt"], enable_loader_override=False):
        from _fuzz_guard import Guard
        from _fuzz_targets import TARGETS
    target = TARGETS[args.target]
    seeds = target.seeds()
    guard = Guard(target, args.folder)
    guard.warm_up(seeds)
    corpus = args.folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for index, data in enumerate(seeds):
        (corpus / f"seed-{index}").write_bytes(data)

    def one(data: bytes) -> None:
        guard.check(data)

    def changed(data: bytes, max_size: int, number: int) -> bytes:
        rng = Random(number)
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(data, max_size))
        try:
            return target.mutate(rng, data, rng.choice(seeds), ())[:max_size]
        except Exception:  # noqa: BLE001  what was kept need not be of the format any more
            return target.mutate(rng, rng.choice(seeds), rng.choice(seeds), ())[:max_size]

    options = [f"-runs={args.inputs}", f"-seed={args.seed}", "-max_len=65536", "-rss_limit_mb=0"]
    quiet = [
        "-verbosity=0",
        "-print_final_stats=0",
        "-timeout=0",
        f"-artifact_prefix={args.folder}/",
    ]
    atheris.Setup([sys.argv[0], *options, *quiet, str(corpus)], one, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
