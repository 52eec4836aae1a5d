"""For all tests of the app: a machine that is never busy, so that verdicts are of the gates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.neighbours import Neighbours


@pytest.fixture(autouse=True, scope="module")
def idle_machine() -> Iterator[None]:
    """Tiny models are timed for milliseconds, beside other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Neighbours, "share", property(lambda _: 0.0))
        yield
