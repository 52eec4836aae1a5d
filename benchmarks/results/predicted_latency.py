"""Predicted against measured latency of random plans, in one interleaved session.

compress-export profile MODEL --batch 8 --sequence 64 -o table.json
python benchmarks/results/predicted_latency.py MODEL table.json [PLANS]
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from benchmarks.profile import Effort, measure_graphs
from compress.checkpoint.checkpoint import load
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.plan.latency_table import LatencyTable
from compress.plan.plan import EncoderShape, LayerPlan, Plan
from compress.plan.workload import Mix
from export.exporter import export_graphs
from export.graph.inputs import input_names
from export.precision.variants import variant


def random_plan(shape: EncoderShape, generator: np.random.Generator) -> Plan:
    """Heads and runs of 16 neurons drawn for each layer, a tenth of the sublayers gone."""
    layers = []
    for i in range(shape.n_layers):
        heads = generator.integers(1, shape.n_heads[i] + 1) * (generator.random() > 0.1)
        neurons = 16 * generator.integers(1, shape.ffn_widths[i] // 16 + 1)
        neurons *= generator.random() > 0.1
        layers.append(
            LayerPlan(source=i, heads=tuple(range(heads)), neurons=tuple(range(int(neurons))))
        )
    return Plan(shape=shape, layers=tuple(layers), depth=shape.depth)


def main(source: str, table: str, plans: str = "20") -> None:
    """Print every plan's share of the unpruned latency, and the median and worst error."""
    model, found_table = load(source), LatencyTable.load(Path(table))
    tokenizer = AutoTokenizer.from_pretrained(source)
    names = input_names(model, tokenizer.model_input_names)
    workload, chosen = found_table.points[0].workload, variant(found_table.variant)
    prices = found_table.prices(Mix.of([(workload, 1.0)]))
    shape, generator = bind(model).shape, np.random.default_rng(0)
    drawn = [Plan.full(shape), *(random_plan(shape, generator) for _ in range(int(plans)))]
    with tempfile.TemporaryDirectory() as folder:
        graphs = [Path(folder) / str(i) / "model.onnx" for i in range(len(drawn))]
        for plan, graph in zip(drawn, graphs, strict=True):
            student = copy.deepcopy(model)
            apply_(student, plan)
            export_graphs(student.eval(), names, [chosen], [graph])
        effort = Effort(precision=0.008, seconds=60.0)
        vocabulary = int(model.config.vocab_size)
        found = measure_graphs(graphs, workload, chosen.provider, vocabulary, effort)
    predicted = np.array([prices.total(plan.student_shape) for plan in drawn])
    ratios = (predicted[1:] / predicted[0]) / (found.milliseconds[1:] / found.milliseconds[0])
    errors = np.abs(ratios - 1)
    rows = [
        {"predicted": float(p / predicted[0]), "measured": float(m / found.milliseconds[0])}
        for p, m in zip(predicted[1:], found.milliseconds[1:], strict=True)
    ]
    facts = {
        "workload": str(workload),
        "variant": chosen.name,
        "median_error": float(np.median(errors)),
        "worst_error": float(errors.max()),
        "dense_error": float(predicted[0] / found.milliseconds[0] - 1),
        "shares_of_dense": rows,
    }
    sys.stdout.write(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
