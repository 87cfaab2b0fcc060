"""For pytest: notebooks compute little, and their kernels find the course, wherever they run."""

import os
from pathlib import Path

os.environ.setdefault("COURSE_PRESET", "smoke")
if "PYTEST_XDIST_WORKER" in os.environ:  # workers that compute at once with several threads each wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
