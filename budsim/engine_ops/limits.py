"""Limits every engine has, under one spelling and with one default each."""

from __future__ import annotations

from typing import Final

# Running sequences of one attention rank unless the search or the caller chooses another number.
# vLLM's own default is 256 on most devices (``EngineArgs.get_batch_defaults``, 0.32.0).
DEFAULT_MAX_NUM_SEQS: Final = 256

# Tokens of one engine step unless the search or the caller chooses another number. The default of
# vLLM 0.32.0 and SGLang 0.5.23 on an H100.
DEFAULT_MAX_NUM_BATCHED_TOKENS: Final = 8192

# Limits of running sequences that the search tries.
TRIED_MAX_NUM_SEQS: Final = (8, 16, 32, 64, 128, 256, 512, 1024)

# Step sizes in tokens that the search tries.
TRIED_MAX_NUM_BATCHED_TOKENS: Final = (1024, 2048, 4096, 8192, 16384)

# Share of device memory an engine takes (0..1) where neither engine nor caller names one.
DEFAULT_MEMORY_FRACTION: Final = 0.9

# Largest rank of a LoRA adapter unless the caller names another: the default of vLLM 0.32.0.
DEFAULT_MAX_LORA_RANK: Final = 16

# Ranks vLLM 0.32.0 accepts as ``--max-lora-rank``; SGLang 0.5.23 takes all of them.
LORA_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
