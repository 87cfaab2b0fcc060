"""For pytest: notebooks compute little, and their kernels find the course, wherever they run."""

import os
from pathlib import Path

os.environ.setdefault("COURSE_PRESET", "smoke")
paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
