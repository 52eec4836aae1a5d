"""How much memory a run takes at its peak, from what its stages hold at once."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.profile import Effort
from compress.repair.targets import target_bytes
from compress.saliency.statistics import GRADIENT_ROWS
from compress_export.forecast.work import Work
from compress_export.stages import Step
from export.layer_stacks import LayerStack, stack_sizes

__all__ = ["peak_bytes", "stack_bytes"]

_RUNTIMES = 900_000_000
"""Python with torch, transformers and ONNX Runtime loaded."""
_FLOAT = 4
_FROZEN, _TRAINED = (7, 2, 2), (12, 3, 3)
"""Hidden states, FFN activations and rows of scores a token and layer that a backward pass goes
back through: without weight gradients, and with."""
_COPIES_OF_GRAPH = 3.0
_TRAINING_COPIES = 4
_FACTORS = 5
"""Float64 matrices of the inputs of one projection, at once."""


def peak_bytes(work: Work) -> int:
    """Bytes, of the largest step."""
    if work.streamed:
        return round(_RUNTIMES + _streaming(work))
    return round(_RUNTIMES + max(_OF_STEP[step](work) for step in work.steps))


def _streaming(work: Work) -> float:
    """What pruning holds that keeps one layer in memory at a time, see `compress.streamed`."""
    layer = (work.teacher_bytes - 4 * work.outside) / work.shape.n_layers
    states = 4 * work.calibration * work.padding * work.shape.hidden_size * _FLOAT
    of_layer = _activations(work, work.widest, _FROZEN) / work.shape.depth
    factors = _FACTORS * 8 * work.ffn_width**2
    d = work.shape.hidden_size
    gradients = 2 * work.shape.n_layers * d * (d + GRADIENT_ROWS) * _FLOAT
    curved = gradients if work.recipe.prune.method == "obs" else 0
    return 4 * work.outside + 3 * layer + states + of_layer + factors + curved


def _pruning(work: Work) -> float:
    return max(_cutting(work), _tabling(work))


def _tabling(work: Work) -> float:
    """The teacher, and the stacks that are timed together, each with what it is given."""
    if not work.tables:
        return 0.0
    sizes = [stack_bytes(stack, work) for stack in stack_sizes(work.shape)]
    together = min(sum(sizes), max(Effort().most_bytes, 2 * max(sizes)))
    busy = max(_busy(work, w.batch * w.sequence, w.sequence) for w in work.workloads)
    return work.teacher_bytes + together + len(sizes) * together / sum(sizes) * busy


def stack_bytes(stack: LayerStack, work: Work) -> int:
    """Of the weights of a stack's graph, in float32."""
    shape = work.shape
    heads = stack.heads * (shape.head_weights + shape.head_biases)
    neurons = stack.neurons * (shape.neuron_weights + shape.neuron_biases)
    layer = heads + neurons + max(shape.layer_parameters)
    return _FLOAT * (work.outside + stack.layers * layer)


def _busy(work: Work, tokens: int, sequence: int) -> float:
    """What a graph takes while it runs."""
    shape = work.shape
    scores = 2 * max(shape.n_heads) * sequence
    return float(tokens * _FLOAT * (4 * shape.hidden_size + 2 * work.ffn_width + scores))


def _cutting(work: Work) -> float:
    """Teacher, student, a student on trial; statistics; targets; what a backward pass keeps."""
    shape = work.shape
    models = 3 * work.teacher_bytes
    width = work.attention_width**2 + work.ffn_width**2 + 2 * shape.hidden_size**2
    statistics = shape.n_layers * width * _FLOAT if work.recipe.prune.method == "obs" else 0
    states = work.calibration * work.padding * shape.hidden_size * _FLOAT
    remembered = target_bytes(shape, work.calibration) if work.remembers else 0
    return models + statistics + 4 * states + remembered + _activations(work, work.widest, _FROZEN)


def _activations(work: Work, tokens: int, kept: tuple[int, int, int]) -> float:
    """What a backward pass over so many tokens goes back through."""
    shape = work.shape
    of_scores = max(shape.n_heads) * work.longest
    sizes = (shape.hidden_size, work.ffn_width, of_scores)
    each = sum(count * size for count, size in zip(kept, sizes, strict=True))
    return float(tokens * shape.depth * _FLOAT * each)


def _training(work: Work) -> float:
    if not work.recipe.recover.epochs:
        return 0.0
    tokens = work.recipe.recover.batch_size * work.longest
    return (
        work.teacher_bytes
        + _TRAINING_COPIES * work.student_bytes
        + (1 + work.share) * _activations(work, tokens, _TRAINED)
    )


def _exporting(work: Work) -> float:
    return work.teacher_bytes * (1 + _COPIES_OF_GRAPH) + work.student_bytes


def _measuring(work: Work) -> float:
    """Teacher and student in torch, all graphs open."""
    graphs = work.teacher_bytes + work.graphs * work.student_bytes
    settings = work.recipe.benchmark
    longest = max(settings.sequences)
    busy = _busy(work, max(settings.batches) * longest, longest)
    return work.teacher_bytes + work.student_bytes + graphs + (1 + work.graphs) * busy


_OF_STEP: dict[Step, Callable[[Work], float]] = {
    "prune": _pruning,
    "recover": _training,
    "export": _exporting,
    "evaluate": _measuring,
    "bench": _measuring,
}
