"""The tokens that images, video and audio add to the prompts of a traffic."""

from __future__ import annotations

from dataclasses import replace

from budsim.commons.errors import InvalidInput
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.encoders import encoder_work
from budsim.performance.lengths import longer
from budsim.performance.limits import MOST_TOKENS
from budsim.performance.recorded import Trace
from budsim.performance.traffic import Traffic


def with_items(architecture: Architecture, traffic: Traffic) -> Traffic:
    """Return the traffic with prompts as the model reads them: text, and the tokens of all items.

    A prompt of 500 tokens with an image of 1,024 x 1,024 pixels has 1,871 in Qwen2.5-VL.

    Raises
    ------
    InvalidInput
        The model does not read one of the items, or they are too many; the field is named.
    """
    if not traffic.media or traffic.item_tokens:
        return traffic
    work = encoder_work(architecture.encoders, traffic.media, architecture.model_id)
    if traffic.prompt.most + work.prompt_tokens > MOST_TOKENS:
        names = ("images_per_request", "video_frames", "audio_seconds")
        media = traffic.media
        counts = (media.images, media.video_frames, media.audio_s)
        field = next(name for name, count in zip(names, counts, strict=True) if count)
        problem = f"all items of a request are {work.prompt_tokens} tokens"
        raise InvalidInput(field, problem, f"prompts of at most {MOST_TOKENS} tokens")
    arrivals = traffic.arrivals
    if isinstance(arrivals, Trace):
        arrivals = replace(arrivals, prompt_tokens=arrivals.prompt_tokens + work.prompt_tokens)
    return replace(
        traffic,
        arrivals=arrivals,
        prompt=longer(traffic.prompt, work.prompt_tokens),
        item_tokens=work.prompt_tokens,
    )
