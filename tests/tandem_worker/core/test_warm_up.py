"""The warm-up runs both halves of a hand-over and leaves the engine as it was."""

from collections.abc import Callable
from typing import Any

import pytest

from tandem_worker.warm_up import warm_up


@pytest.mark.parametrize("num_blocks", [1, 2, 8])
def test_a_warm_engine_has_computed_and_holds_nothing(
    make_bench: Callable[..., Any], num_blocks: int
) -> None:
    bench = make_bench(num_blocks)
    warm_up(bench.engine)
    bench.engine.check_integrity()
    assert bench.runner.batches
    assert bench.engine.load().kv_blocks_used == 0
    assert not bench.engine.has_work()
