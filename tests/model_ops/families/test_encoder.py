"""BERT-like encoders are counted to the last weight."""

from __future__ import annotations

from typing import Any

from budsim.model_ops.config import architecture_from_config

BERT: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}


def test_bert_base_has_its_published_size() -> None:
    """bert-base-uncased: 109,482,240 weights with its pooler (arXiv 1810.04805: 110 M)."""
    assert architecture_from_config("bert", BERT).parameters == 109_482_240


def test_roberta_reads_two_tokens_fewer_than_its_table_holds() -> None:
    """514 rows are positions 2 to 513: 512 tokens."""
    roberta = {**BERT, "model_type": "roberta", "max_position_embeddings": 514}
    assert architecture_from_config("roberta", roberta).max_context_tokens == 512
