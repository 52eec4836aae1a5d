"""`python -m compress_export` is `compress-export`."""

from __future__ import annotations

from compress_export.cli import main

main()
