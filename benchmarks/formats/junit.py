"""JUnit XML: a test case a gate. JUnit knows no doubt, so an inconclusive gate is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

__all__ = ["junit"]


def junit(report: Mapping[str, Any]) -> str:
    """The gates of a report as one test suite."""
    gates = report["gates"]
    counts = {
        "tests": str(len(gates)),
        "failures": str(sum(gate["verdict"] == "fail" for gate in gates)),
        "errors": str(sum(gate["verdict"] == "inconclusive" for gate in gates)),
    }
    suites = ElementTree.Element("testsuites", {"name": "compress-export", **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": report["title"], **counts})
    for gate in gates:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": "gates", "name": gate["name"], "time": "0"}
        )
        if gate["verdict"] != "pass":
            kind = "failure" if gate["verdict"] == "fail" else "error"
            attributes = {"type": gate["verdict"], "message": _message(gate)}
            ElementTree.SubElement(case, kind, attributes)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _message(gate: Mapping[str, Any]) -> str:
    high = "?" if gate["high"] is None else f"{gate['high']:.4g}"
    return (
        f"threshold {gate['threshold']:.4g}, measured {gate['value']:.4g} "
        f"({gate['low']:.4g} to {high})"
    )
