"""`doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import json

from compress_export.console import out, table
from compress_export.doctor import examine


def run(*, as_json: bool) -> None:
    """Print every finding, with a fix where something is missing."""
    findings = examine()
    if as_json:
        out.print_json(json.dumps([finding.to_dict() for finding in findings]))
        return
    rows = [[f.subject, f.state, f.remedy] for f in findings]
    table("this machine", ["what", "state", "what to do"], rows)
