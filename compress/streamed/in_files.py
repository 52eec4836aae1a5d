"""A student that stays in files while it is pruned: one layer's weights are in memory at a time.

The same functions do the same sums in the same order as in memory, so that the student is the one
that `trials=0` gives in memory, to the bit. Only where weights and activations lie differs.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compress.errors import CheckpointError, SpecError
from compress.files.folder import check_target
from compress.model.batches import Batches, Loss, Progress, silent
from compress.model.binding import bind
from compress.model.pooling import Pooling
from compress.plan.plan import Plan
from compress.saliency.pruning_order import PruningOrder
from compress.streamed.mapped import forget, layer_views, load_mapped, paged
from compress.streamed.obs_order import obs_order_by_layer
from compress.streamed.spill import spilled
from compress.streamed.write import StudentWriter

__all__ = ["InFiles"]


class InFiles:
    """A checkpoint that is pruned into another one; neither is ever whole in memory.

    A storage for `compress.Pruner`, to be used in a `with` block, for one budget, without trials.
    Memory holds
    embeddings and head, one layer of teacher and student, four hidden states per calibration token,
    and with `obs` the Fisher matrices of all outputs. On disk, `scratch` takes a student per step
    and what backward passes need.

    Args:
        source: A checkpoint of unshared layers, in float32.
        folder: The student's folder; it appears when the student is complete.
        tokenizer: Saved beside the weights.
        pooling: Pooling of an embedding model, saved beside the weights.
        scratch: Folder for temporary files. Default: the system's.

    Raises:
        CheckpointError: The checkpoint cannot be read in place, or its layers are shared.

    Example::

        with InFiles(source, folder) as files:
            Pruner(files, batches, prices, PruneSpec(score="fisher")).prune_to(budget)
    """

    in_memory = False

    def __init__(
        self,
        source: Path,
        folder: Path,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        pooling: Pooling | None = None,
        scratch: Path | None = None,
    ) -> None:
        self.teacher = bind(load_mapped(source))
        if self.teacher.architecture.shared:
            raise CheckpointError(
                f"a {self.teacher.shape.model_type} shares its layers' weights, so that all of "
                "them are in memory at once; prune it without streaming"
            )
        check_target(folder, "checkpoint")
        self.student = bind(load_mapped(source))
        self._now, self._folder, self._scratch = source, folder, scratch
        self._tokenizer, self._pooling = tokenizer, pooling
        self._progress: Progress = silent
        self._damping: float | None = None
        self._n_cuts = 0
        self._work: Path | None = None
        self._stack = ExitStack()

    def __enter__(self) -> InFiles:
        temporary = tempfile.TemporaryDirectory(prefix="compress-export-", dir=self._scratch)
        self._work = Path(self._stack.enter_context(temporary))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def begin(self, fitted: Batches, damping: float | None, progress: Progress) -> None:
        """See `compress.pruner.storage.Storage`.

        Raises:
            SpecError: This is no `with` block.
        """
        if self._work is None:
            raise SpecError("InFiles: use it in a `with` block, which removes its temporary files")
        self._damping, self._progress = damping, progress

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See `compress.pruner.storage.Storage`."""
        with (
            paged(self.teacher),
            paged(self.student) as resident,
            spilled(resident, self._work),
        ):
            yield
        for layer in self.student.layers:
            forget(layer_views(layer.module))

    def obs_order(
        self, batches: Batches, loss: Loss, damping: float, progress: Progress
    ) -> PruningOrder:
        """See `compress.pruner.storage.Storage`."""
        return obs_order_by_layer(self.student, batches, loss, damping, self._work, progress)

    def cut(self, step: Plan, plan: Plan, batches: Batches, *, final: bool) -> None:
        """See `compress.pruner.storage.Storage`."""
        assert self._work is not None  # `begin` has checked it
        if self._now == self._folder:
            raise SpecError("InFiles: a student is written already; use another for another budget")
        self._n_cuts += 1
        target = self._folder if final else self._work / str(self._n_cuts)
        self._writer(self._damping).write(self._now, step, plan, batches, target)
        if self._now.is_relative_to(self._work):  # each is large, and only the last is needed
            shutil.rmtree(self._now)
        self._now = target
        self.student = bind(load_mapped(target))

    def finish(self, plan: Plan, batches: Batches) -> None:
        """See `compress.pruner.storage.Storage`."""
        whole = Plan.full(self.student.shape)
        self._writer(None).write(self._now, whole, plan, batches, self._folder)

    def snapshot(self) -> PreTrainedModel:
        """The student in place: its weights are views of its files."""
        return self.student.model

    def _writer(self, damping: float | None) -> StudentWriter:
        return StudentWriter(self.teacher, damping, self._tokenizer, self._pooling, self._progress)
