"""Finds the catalog's entry for a name as people, tables, paths and re-uploaders spell it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from budsim.model_ops.catalog import CatalogEntry, catalog_entries, requantized

# Publishers that re-upload other people's checkpoints under the checkpoint's own name.
REUPLOADERS: Final = frozenset(
    "amd casperhansen cognitivecomputations hugging-quants lmstudio-community modelscope "
    "neuralmagic nm-testing nousresearch nvidia quixiai redhatai solidrust thebloke thudm unsloth "
    "zhipuai".split()
)

# Suffixes that re-uploaders append to a name, and the quantization each states; the longest
# suffix that matches wins.
SUFFIXES: Final[Mapping[str, str | None]] = {
    "-fp8": "fp8",
    "-fp8-dynamic": "fp8",
    "-fp8_dynamic": "fp8",
    "-fp8-kv": "quark-fp8",
    "-fp8-block": "fp8-block",
    "-quantized.w8a8": "w8a8",
    "-quantized.w4a16": "w4a16",
    "-w4a16": "w4a16",
    "-w8a8": "w8a8",
    "-awq": "awq",
    "-awq-int4": "awq",
    "-awq-4bit": "awq",
    "-gptq": "gptq",
    "-gptq-int4": "gptq",
    "-gptq-4bit": "gptq",
    "-gptq-int8": "gptq-8",
    "-bnb-4bit": "bnb-4bit",
    "-unsloth-bnb-4bit": "bnb-4bit",
    "-bf16": "none",
    "": None,
}

# Words of a name that say how a model was tuned or stored, not what shape it has.
TUNING_WORDS: Final = frozenset("meta instruct chat hf it pt".split())


def find_entry(name: str) -> CatalogEntry | None:
    """Return the catalog's entry for a name, ``None`` if there is none or several shapes match.

    A name may be

    * an id or alias, in any case, with or without its publisher;
    * an id of a known re-uploader, with a suffix that states the quantization;
    * spelt without its marks (``gptoss120b``, ``LLaMA 3.1 8B``) or its tuning words
      (``-Instruct``, ``-hf``), as long as only one shape matches;
    * a path, whose last part counts, or a folder of a hub's cache (``models--org--name``).
    """
    return find_by_name(name) or (find_by_name(last) if (last := _last_of_path(name)) else None)


def find_by_name(name: str) -> CatalogEntry | None:
    """Return the entry for a name that is no path."""
    key = name.lower()
    return catalog_entries().get(key) or _without_publisher().get(key) or _find_reupload(name)


def close_names(name: str) -> list[str]:
    """Return up to five ids whose spelling is close to an unknown name."""
    ids = {key: entry.model_id for key, entry in catalog_entries().items()}
    close = difflib.get_close_matches(name.lower(), ids, n=5, cutoff=0.6)
    if not close:
        # The publisher may be the wrong part: compare what follows it.
        bare = {key.rsplit("/", 1)[-1]: model_id for key, model_id in ids.items()}
        last = name.lower().rsplit("/", 1)[-1]
        found = difflib.get_close_matches(last, bare, n=5, cutoff=0.75)
        close = [bare[key].lower() for key in found]
    return list(dict.fromkeys(ids[key] for key in close))


def spellings(name: str) -> tuple[str, str]:
    """Return a name's letters and numbers: all of them, and those without tuning words.

    ``Llama-3.1-8B-Instruct`` -> (``llama3.1.8binstruct``, ``llama3.1.8b``). Numbers stay apart, so
    that 3.1 and 8 are not 3 and 18.
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    return _run_together(words), _run_together([word for word in words if word not in TUNING_WORDS])


def _run_together(words: Sequence[str]) -> str:
    return re.sub(r"(?<=\d) (?=\d)", ".", " ".join(words)).replace(" ", "")


@cache
def _without_publisher() -> Mapping[str, CatalogEntry]:
    """Return the entries by id without publisher, where only one has that name."""
    by_name: dict[str, list[CatalogEntry]] = {}
    for key, entry in catalog_entries().items():
        if key == entry.model_id.lower() and "/" in key:
            by_name.setdefault(key.split("/", 1)[1], []).append(entry)
    # Two publishers may use one name for different models: then the publisher must be stated.
    return {name: entries[0] for name, entries in by_name.items() if len(entries) == 1}


@cache
def _by_spelling() -> Mapping[str, CatalogEntry]:
    """Return the entries by spelling, where only one shape has that spelling."""
    found: dict[str, CatalogEntry] = {}
    ambiguous: set[str] = set()
    for key, entry in catalog_entries().items():
        for spelling in spellings(key.rsplit("/", 1)[-1]):
            if found.setdefault(spelling, entry).config != entry.config:
                ambiguous.add(spelling)
    return {spelling: entry for spelling, entry in found.items() if spelling not in ambiguous}


def _last_of_path(name: str) -> str:
    """Return the name at the end of a path or in a hub's cache; empty when it is no path."""
    parts = [part for part in re.split(r"[/\\]+", name) if part not in ("", ".")]
    if cached := [part for part in parts if part.startswith("models--")]:
        return "/".join(cached[-1].split("--")[1:])
    return parts[-1] if parts and _is_path(name, parts) and ".." not in parts else ""


def _is_path(name: str, parts: Sequence[str]) -> bool:
    # `models/NAME` is a folder; any other two parts are publisher and name.
    in_models = len(parts) == 2 and parts[0].lower() == "models"
    return len(parts) > 2 or name.startswith(("/", "./", "~")) or in_models


def _find_reupload(name: str) -> CatalogEntry | None:
    publisher, _, rest = name.rpartition("/")
    bare = rest.lower()
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if not bare.endswith(suffix):
            continue
        stem, quantization = bare.removesuffix(suffix), SUFFIXES[suffix]
        exact = _without_publisher().get(stem)
        original = exact or _find_spelling(stem)
        # A stranger's fine-tune of that name may have another shape: it is not guessed.
        if original is None or not _may_publish(publisher, original):
            continue
        # Only spelt differently, so the answer carries the original's id.
        if exact is None and quantization is None:
            return original
        config = requantized(original.config, quantization) if quantization else original.config
        return replace(original, model_id=name, config=config)
    return None


def _find_spelling(name: str) -> CatalogEntry | None:
    known = _by_spelling()
    return next((known[spelling] for spelling in spellings(name) if spelling in known), None)


def _may_publish(publisher: str, original: CatalogEntry) -> bool:
    own = original.model_id.split("/", 1)[0].lower()
    return publisher.lower() in REUPLOADERS | {"", own}
