"""What an engine's host adds to the time to the first token, by engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from budsim.engine_ops.engine_profile import FirstToken
from budsim.engine_ops.profiles import profiles
from budsim.performance.candidates import Floats

# Our guess for engines without TTFT measurements: 10 ms and one step.
OTHER_ENGINE = FirstToken(request_s=0.01, steps=1.0)

# Fitted by scripts/fit_host.py; kept with each engine.
FIRST_TOKEN: Mapping[str, FirstToken] = {
    name: profile.first_token for name, profile in profiles().items() if profile.first_token
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTime:
    """`FirstToken` spread over candidates, arrays of shape (n,).

    Attributes
    ----------
    request_s : seconds of host work for one request (HTTP, tokenizer, scheduler)
    awaited_steps : steps between a request's arrival and its first token that hold none of its work
    prompt_launch_s : seconds of host work to launch one layer of a step with prompts
    """

    request_s: Floats
    awaited_steps: Floats
    prompt_launch_s: Floats
