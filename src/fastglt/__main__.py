"""``python -m fastglt``."""

from __future__ import annotations

from fastglt.cli import main

if __name__ == "__main__":
    main()
