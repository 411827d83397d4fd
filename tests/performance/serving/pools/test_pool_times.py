"""Times of prefill workers: steps, pipelines, and what they hand over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from budsim.performance.serving.pools.pool_times import pool_times, prefill_times
from tests.performance.serving.pools.test_queues import pools


def test_a_pipeline_reads_more_prompts_and_each_as_slowly() -> None:
    """Two stages of the same ranks: half of the seconds for each of many, no fewer for one."""
    alone = pools().prefill
    piped = replace(alone, pp=np.full(len(alone), 2), concurrency=np.full(len(alone), 64.0))
    one, two = prefill_times(replace(alone, concurrency=piped.concurrency)), prefill_times(piped)
    assert two.prompt_s[0] == pytest.approx(one.prompt_s[0] / 2.0, rel=0.05)
    assert two.lone_prompt_s[0] == pytest.approx(one.lone_prompt_s[0], rel=0.05)
    assert two.batches.further[0] == 1.0


def test_parts_of_a_prompt_follow_each_other_through_a_pipeline() -> None:
    """Four parts through two stages: the first token after five of eight part times, or so."""
    table = pools().prefill
    whole = replace(table, pp=np.full(len(table), 2))
    cut = replace(whole, token_budget=table.input_tokens / 4.0)
    times, parts = prefill_times(whole), prefill_times(cut)
    assert 0.55 < parts.lone_prompt_s[0] / times.lone_prompt_s[0] < 0.8
    assert parts.batches.further[0] == pytest.approx(0.25)
    # Smaller steps multiply less at a time.
    assert parts.prompt_s[0] >= times.prompt_s[0]


def test_all_stages_send_their_layers_at_once() -> None:
    """As many cards on the decode side: a cache of two stages takes half the time."""
    both = pools()
    wide = replace(both, decode=replace(both.decode, tp=both.decode.tp * 2))
    piped = replace(wide, prefill=replace(wide.prefill, pp=np.full(len(wide), 2)))
    handshake = 0.06
    took = [float(pool_times(each).transfer_s[0]) - handshake for each in (wide, piped)]
    assert took[1] == pytest.approx(took[0] / 2.0, rel=0.01)
