"""`python -m compress_export` is `compress-export`."""

from __future__ import annotations

import sys
from pathlib import Path

# Python puts the working directory first: an `export.py` that lies there would be run as ours.
_home = Path(__file__).resolve().parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path.cwd()]
if Path.cwd() == _home:
    sys.path.append(str(_home))

from compress_export.cli import main  # noqa: E402 - the path comes first

main()
