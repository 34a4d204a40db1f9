"""The command line: parse, call, print.

One module a command; :mod:`fastglt.cli.options` makes their options from the settings models.
Importing this package and asking for help imports neither torch nor PyG nor matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastglt._memory import keep_memory
from fastglt.cli.exits import exit_codes


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and end the process.

    Args:
        args: The arguments; ``None`` takes those of the process.

    Raises:
        SystemExit: Always; see :mod:`fastglt.cli.exits` for the codes.
    """
    if args is None:  # the process is ours
        keep_memory()
    with exit_codes():
        from fastglt.cli.app import build_command

        build_command()(args=None if args is None else list(args), prog_name="fastglt")
