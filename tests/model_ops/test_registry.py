"""Models are found by id, alias, re-upload and folder, and never by guessing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from budsim.commons.errors import InvalidInput, NotFound, Unavailable
from budsim.commons.precision import Precision
from budsim.model_ops.model_names import find_entry
from budsim.model_ops.registry import known_models, published_parameters, resolve_model

SMALL = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 128,
}


@pytest.mark.parametrize(
    ("spelling", "model_id"),
    [
        ("meta-llama/llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("META-LLAMA/LLAMA-3.1-8B-INSTRUCT", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("meta-llama/Meta-Llama-3.1-70B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"),
        ("- Qwen/Qwen3.5-35B-A3B", "Qwen/Qwen3.5-35B-A3B"),
        ("  openai/gpt-oss-120b ", "openai/gpt-oss-120b"),
        ("zhipuai/GLM-5", "zai-org/GLM-5"),
        ("gptj", "EleutherAI/gpt-j-6b"),
        ("Qwen/Qwen3.8-27B", "Qwen/Qwen3.8-27B"),
        ("deepseek-v4.1-flash", "deepseek-ai/DeepSeek-V4.1-Flash"),
        ("zai-org/GLM-4.7-Flash", "zai-org/GLM-4.7-Flash"),
    ],
)
def test_names_are_found_however_they_are_spelt(spelling: str, model_id: str) -> None:
    """Case, stray dashes, missing publishers and old names lead to the same model."""
    assert resolve_model(spelling).model_id == model_id


@pytest.mark.parametrize(
    ("spelling", "model_id"),
    [
        ("llama3.1-70b", "meta-llama/Llama-3.1-70B-Instruct"),
        ("LLaMA 3.1 8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama3_1-405b", "meta-llama/Llama-3.1-405B-Instruct"),
        ("meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama2-70b-chat", "meta-llama/Llama-2-70b-hf"),
        ("llama2-70b-99.9", "meta-llama/Llama-2-70b-hf"),
        ("llama4-maverick", "meta-llama/Llama-4-Maverick-17B-128E-Instruct"),
        ("mixtral-8x7b-instruct-v0.1", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("Mistral 7B", "mistralai/Mistral-7B-v0.1"),
        ("gptoss120b", "openai/gpt-oss-120b"),
        ("DSR1", "deepseek-ai/DeepSeek-R1"),
        ("deepseek-r1-0528", "deepseek-ai/DeepSeek-R1-0528"),
        ("kimik2.5", "moonshotai/Kimi-K2.5"),
        ("minimaxm2.5", "MiniMaxAI/MiniMax-M2.5"),
        ("glm5", "zai-org/GLM-5"),
        ("gemma3-27b", "google/gemma-3-27b-it"),
        ("qwen 2.5 72b instruct", "Qwen/Qwen2.5-72B-Instruct"),
        ("Qwen/Qwen3-Next-80B-A3B", "Qwen/Qwen3-Next-80B-A3B-Instruct"),
        ("/models/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("/models/meta-llama/Llama-3.1-8B/", "meta-llama/Llama-3.1-8B"),
        ("./Qwen3-32B", "Qwen/Qwen3-32B"),
        ("/root/.cache/huggingface/hub/models--Qwen--Qwen3-32B/snapshots/0a1b", "Qwen/Qwen3-32B"),
    ],
)
def test_names_of_tables_and_paths_are_found(spelling: str, model_id: str) -> None:
    """Marks, tuning words and the folders before a name do not hide it."""
    assert resolve_model(spelling).layers == resolve_model(model_id).layers
    assert resolve_model(spelling).native_precision is resolve_model(model_id).native_precision


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "70b",
        "qwen3",
        "gpt3",
        "llama-3-18b",
        "OPT-175B",
        "/models/x",
        "../etc/Llama-3.1-8B",
        "a/b/../Qwen3-32B",
        "mistral-8x7b",
    ],
)
def test_what_means_no_model_or_several_is_not_guessed(name: str) -> None:
    """A family, a size alone, a size that does not exist, or a path that climbs."""
    with pytest.raises(NotFound):
        resolve_model(name)


def test_a_folder_of_ones_own_is_read_before_its_name_is_believed(tmp_path: Path) -> None:
    """A checkpoint in the registry folder is what its config.json says, whatever its name."""
    (tmp_path / "models" / "Qwen3-32B").mkdir(parents=True)
    (tmp_path / "models" / "Qwen3-32B" / "config.json").write_text(json.dumps(SMALL))
    assert resolve_model("models/Qwen3-32B", registry_dir=tmp_path).hidden_size == 64


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("RedHatAI/Qwen3-8B-FP8-dynamic", Precision.FP8),
        ("unsloth/Llama-3.2-3B-Instruct-bnb-4bit", Precision.INT4),
        ("nm-testing/Mistral-7B-Instruct-v0.3-AWQ", Precision.INT4),
        ("unsloth/gemma-2-9b-it", Precision.BF16),
    ],
)
def test_reuploads_under_the_models_own_name(name: str, precision: Precision) -> None:
    """A known re-uploader's name is the model it names, in the format its ending says."""
    architecture = resolve_model(name)
    assert (architecture.model_id, architecture.native_precision) == (name, precision)


@pytest.mark.parametrize(
    "name",
    [
        "google/Llama-3.1-8B-Instruct",
        "someone/Qwen3-8B-FP8",
        "Qwen/Qwen3-9B",
        "gpt-5",
        "Qwen/Qwen3-8B-EXL2",
    ],
)
def test_other_names_are_not_guessed(name: str) -> None:
    """A stranger's upload, a size that does not exist or an unknown ending is not known."""
    with pytest.raises(NotFound) as error:
        resolve_model(name)
    assert error.value.field == "pretrained_model_uri"


def test_close_names_are_offered() -> None:
    """A typo gets the name that was meant."""
    with pytest.raises(NotFound, match=r"meta-llama/Llama-3\.1-8B-Instruct"):
        resolve_model("meta-llama/Llama-3.1-8B-Instuct")


@pytest.mark.parametrize("uri", ["", "  ", "-", "a\nb", "x" * 600])
def test_empty_and_monstrous_names_are_refused(uri: str) -> None:
    """A name that can be none is bad input, not an unknown model."""
    with pytest.raises(InvalidInput, match="pretrained_model_uri"):
        resolve_model(uri)


def test_inline_config_decides_alone() -> None:
    """A config given with the name is read instead of the catalog."""
    assert resolve_model("meta-llama/Llama-3.1-8B-Instruct", config=SMALL).hidden_size == 64


def test_folder_of_checkpoints(tmp_path: Path) -> None:
    """A path below the registry folder is read from its config.json."""
    (tmp_path / "mine" / "tuned").mkdir(parents=True)
    (tmp_path / "mine" / "tuned" / "config.json").write_text(json.dumps(SMALL))
    assert resolve_model("mine/tuned", registry_dir=tmp_path).vocab_size == 100
    assert resolve_model("mine/tuned/config.json", registry_dir=tmp_path).vocab_size == 100


@pytest.mark.parametrize("path", ["../outside", "inside/../../outside", "link", "{outside}"])
def test_nothing_outside_the_folder_is_read(tmp_path: Path, path: str) -> None:
    """Neither dots, links nor absolute paths lead out of the registry folder."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "inside").mkdir(parents=True)
    outside.mkdir()
    (outside / "config.json").write_text(json.dumps(SMALL))
    (root / "link").symlink_to(outside)
    with pytest.raises(NotFound):
        resolve_model(path.format(outside=outside), registry_dir=root)


def test_linked_config_outside_is_not_read(tmp_path: Path) -> None:
    """A config.json that is itself a link out of the folder is not read."""
    root = tmp_path / "root"
    (root / "model").mkdir(parents=True)
    (tmp_path / "secret.json").write_text(json.dumps(SMALL))
    (root / "model" / "config.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(NotFound):
        resolve_model("model", registry_dir=root)


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "\x00"])
def test_broken_config_files_are_named(tmp_path: Path, content: str) -> None:
    """A config.json that is no JSON object is bad input with the model's name."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text(content)
    with pytest.raises(InvalidInput, match="broken"):
        resolve_model("broken", registry_dir=tmp_path)


def test_silent_hub_is_unavailable() -> None:
    """A hub that does not answer is said to be away; the model is not called unknown."""

    def silent(name: str) -> bytes | None:
        raise Unavailable(f"the model hub does not answer for {name}")

    with pytest.raises(Unavailable, match="someone/new-model"):
        resolve_model("someone/new-model", hub=silent)


def test_what_the_hub_answers_becomes_the_architecture() -> None:
    """A config.json from the hub is read like any other; unknown names stay unknown."""
    llama = find_entry("meta-llama/Llama-3.1-8B-Instruct")
    assert llama is not None
    shelf = {"someone/new-model": json.dumps(dict(llama.config)).encode()}
    assert resolve_model("someone/new-model", hub=shelf.get).hidden_size == 4096
    with pytest.raises(NotFound):
        resolve_model("someone/other-model", hub=shelf.get)


def test_catalog_ids_are_unique_and_resolve() -> None:
    """Every listed model resolves to an architecture of that name, with a source.

    Predictions are kept by architecture, which therefore has to be hashable.
    """
    for model_id in known_models():
        entry = find_entry(model_id)
        assert entry is not None
        assert entry.source
        found = resolve_model(model_id)
        assert found.model_id == entry.model_id == model_id
        assert isinstance(hash(found), int)


def test_models_of_another_kind_are_close_to_none() -> None:
    """A speech model is not taken for a text model whose name has a word in common."""
    with pytest.raises(NotFound) as refused:
        resolve_model("suno/bark-small")
    assert "close to it" not in str(refused.value)


def test_embedding_models_have_no_head() -> None:
    """Models that make vectors are marked, although some share the class of chat models."""
    assert resolve_model("Qwen/Qwen3-Embedding-8B").is_embedding
    assert resolve_model("BAAI/bge-m3").is_embedding
    assert resolve_model("unsloth/Qwen3-Embedding-8B").is_embedding, "what others publish again"
    assert not resolve_model("Qwen/Qwen3-8B").is_embedding


def test_figures_of_unknown_models_are_absent() -> None:
    """No figure is made up."""
    assert published_parameters("nobody/nothing") is None


def test_import_reads_no_catalog() -> None:
    """Importing the registry touches neither the catalog nor the network library."""
    script = (
        "import sys; from budsim.model_ops import catalog, registry;"
        "assert catalog.catalog_entries.cache_info().currsize == 0;"
        "assert 'httpx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a":' + "[" * 100_000])
def test_a_config_nested_very_deep_is_refused(tmp_path: Path, text: str):
    """As one that is no JSON, from the registry folder and from the hub."""
    (tmp_path / "config.json").write_text(text)
    for source in ({"registry_dir": tmp_path}, {"hub": lambda _name: text.encode()}):
        name = "." if "registry_dir" in source else "somebody/something"
        with pytest.raises(InvalidInput, match=r"config\.json is not JSON"):
            resolve_model(name, **source)
