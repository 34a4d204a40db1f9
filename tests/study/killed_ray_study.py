"""A study on a local cluster of Ray whose only job takes long; to be interrupted or killed."""

from __future__ import annotations

import sys
from pathlib import Path

import made_up
import ray_jobs

from fastglt.cli.exits import exit_codes
from fastglt.study.jobs import run_jobs
from fastglt.study.ray_engine import RayEngine

if __name__ == "__main__":
    folder = sys.argv[1]
    job = made_up.job(ray_jobs.HANGING, traces=folder)
    with exit_codes(), RayEngine("auto") as engine:
        list(run_jobs(Path(folder), [job], ray_jobs.run, engine))
