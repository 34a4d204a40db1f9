"""A study whose workers say who they are and then take long; to be killed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from fastglt.study.jobs import Job, run_jobs
from fastglt.study.processes import Processes


def tell_and_wait(job):
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(600)


if __name__ == "__main__":
    jobs = [Job("compare", "any", {"seed": seed}, seed, 0) for seed in range(2)]
    list(run_jobs(Path(sys.argv[1]), jobs, tell_and_wait, Processes(2, 2)))
