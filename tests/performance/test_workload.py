"""Traffic of a closed loop."""

from budsim.performance.workload import Workload


def test_tokens_that_count_are_generated_or_read() -> None:
    """100 of a chat model; the prompt of 512 where nothing is generated."""
    chat = Workload(input_tokens=512, output_tokens=100, concurrency=4)
    embedding = Workload(input_tokens=512, output_tokens=0, concurrency=4)
    assert (chat.context_tokens, chat.counted_tokens, str(chat)) == (612, 100, "512 + 100 tokens")
    assert (embedding.counted_tokens, str(embedding)) == (512, "512 tokens")
