"""What one engine step holds, and what one operator adds to its time."""

from __future__ import annotations

from dataclasses import dataclass

from budsim.performance.candidates import Floats

# Bytes of one activation: 16 bit.
ACTIVATION_BYTES = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step holds; arrays of shape (n,), of the whole replica.

    Attributes
    ----------
    prefill, decode : prompt tokens, and running sequences
    prefill_context, decode_context : mean tokens a prompt token, and a sequence, look back at
    decode_attended : mean cached tokens a sequence multiplies, masked ones too
    verified : tokens of each running sequence: one, and its guesses
    """

    prefill: Floats
    decode: Floats
    prefill_context: Floats
    decode_context: Floats
    decode_attended: Floats
    verified: Floats | float = 1.0

    @property
    def decoded(self) -> Floats:
        """Tokens of running sequences in the step."""
        return self.decode * self.verified

    @property
    def tokens(self) -> Floats:
        """All tokens of the step."""
        return self.prefill + self.decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """Seconds one operator adds to a step, by cause, shape (n,) or 0.0 where it adds none.

    ``ideal_compute_s`` and ``ideal_traffic_s`` are its arithmetic and traffic at data sheet rates.
    """

    weights_s: Floats | float = 0.0
    compute_s: Floats | float = 0.0
    cache_s: Floats | float = 0.0
    link_s: Floats | float = 0.0
    overhead_s: Floats | float = 0.0
    ideal_compute_s: Floats | float = 0.0
    ideal_traffic_s: Floats | float = 0.0
