"""Which engine serves which family on which kind of hardware."""

from budsim.commons.constants import ENGINE_COMPATIBILITY_MAPPING


def test_rocm_serves_what_cuda_serves_with_vllm():
    """Both builds share the code of models."""
    vllm = ENGINE_COMPATIBILITY_MAPPING["vllm"]
    assert vllm["rocm"] == vllm["cuda"]


def test_every_kind_of_hardware_serves_llama():
    """A family every engine has."""
    for kinds in ENGINE_COMPATIBILITY_MAPPING.values():
        assert all("LlamaForCausalLM" in families for families in kinds.values())


def test_families_are_class_names_of_checkpoints():
    """As `architectures` of a config.json spells them."""
    every = {
        family
        for kinds in ENGINE_COMPATIBILITY_MAPPING.values()
        for families in kinds.values()
        for family in families
    }
    assert all(family[0].isupper() and family.isidentifier() for family in every)
