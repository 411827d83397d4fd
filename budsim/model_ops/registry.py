"""Finds a model by name: in the catalog that ships with budsim, in a folder of checkpoints, or on the hub when asked to."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from budsim.commons.errors import CatalogError, InvalidInput, NotFound
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.config import architecture_from_config

FIELD: Final = "pretrained_model_uri"
QUANTIZATIONS: Final = "quantizations.json"
MAX_CONFIG_BYTES: Final = 4_000_000
Lookup = Callable[[str], bytes | None]

# Publishers that re-upload other people's checkpoints under the checkpoint's own name.
REUPLOADERS: Final = frozenset(
    "amd casperhansen cognitivecomputations hugging-quants lmstudio-community modelscope neuralmagic nm-testing nousresearch "
    "nvidia quixiai redhatai solidrust thebloke thudm unsloth zhipuai".split()
)

# What re-uploaders append to a name, and the quantization it says; the longest ending wins.
ENDINGS: Final[Mapping[str, str | None]] = {
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
SHAPELESS: Final = frozenset("meta instruct chat hf it pt".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One checkpoint of the catalog: its name, its config.json's telling fields, and what its publisher says of its size."""

    model_id: str
    config: Mapping[str, object]
    parameters: float | None
    source: str
    parameters_source: str
    is_embedding: bool


def resolve_model(
    uri: str,
    *,
    config: Mapping[str, object] | None = None,
    registry_dir: Path | None = None,
    hub: Lookup | None = None,
) -> Architecture:
    """Return the architecture a name stands for.

    Parameters
    ----------
    uri : str
        A catalog id or alias in any case, or a path below ``registry_dir``.
    config : mapping, optional
        Contents of a config.json, which then decides alone.
    registry_dir : Path, optional
        Folder of checkpoints; nothing outside it is read, whatever ``uri`` says.
    hub : callable, optional
        Asked by name for the content of a config.json nobody here has (`budsim.commons.hub.fetch_config`).

    Raises
    ------
    NotFound
        Nobody knows the name; the hint lists close ones.
    InvalidInput, UnsupportedModel
        The config.json cannot be read.
    Unavailable
        The hub was to be asked and does not answer.
    """
    name = _cleaned(uri)
    if config is not None:
        return architecture_from_config(name, config)
    if (named := _named(name)) is not None:
        return _architecture(named)
    stored = _stored_config(name, registry_dir) if registry_dir is not None else None
    if stored is None and (listing := find_listing(name)) is not None:
        return _architecture(listing)
    if stored is None and hub is not None:
        content = hub(name)
        stored = None if content is None else _parsed(name, content)
    if stored is not None:
        return architecture_from_config(name, stored)
    raise NotFound(FIELD, uri, _hint(name))


def known_models() -> tuple[str, ...]:
    """Return the ids of all catalog models, sorted, without aliases."""
    return tuple(sorted({listing.model_id for listing in _index().values()}, key=str.lower))


def published_parameters(model_id: str) -> tuple[float, str] | None:
    """Return the number of parameters the publisher states and where; ``None`` if the catalog holds no such figure."""
    listing = find_listing(_cleaned(model_id))
    if listing is None or listing.parameters is None:
        return None
    return listing.parameters, listing.parameters_source


def find_listing(name: str) -> Listing | None:
    """Return the catalog's entry for an id or alias, for a bare name, or for a re-upload under the checkpoint's own name.

    A name may be spelt without its marks (``gptoss120b``, ``LLaMA 3.1 8B``) and without what does not change a shape
    (``-Instruct``, ``-hf``), as long as one shape alone answers to it; of a path the last part counts, or what a hub's cache
    calls it (``models--org--name``).
    """
    return _named(name) or (_named(inner) if (inner := _within_path(name)) else None)


def _named(name: str) -> Listing | None:
    key = name.lower()
    return _index().get(key) or _bare_names().get(key) or _reupload(name)


def _cleaned(uri: str) -> str:
    name = uri.strip().lstrip("- ").strip()
    if not name or len(name) > 512 or not name.isprintable():
        raise InvalidInput(
            FIELD,
            repr(uri)[:60],
            "a Hugging Face id such as 'meta-llama/Llama-3.1-8B-Instruct', or a path",
        )
    return name


@cache
def _architecture_of(model_id: str) -> Architecture:
    return _read(_index()[model_id.lower()])


def _architecture(listing: Listing) -> Architecture:
    known = _index().get(listing.model_id.lower())
    if known is listing:
        return _architecture_of(listing.model_id)
    return _read(listing)


def _read(listing: Listing) -> Architecture:
    architecture = architecture_from_config(listing.model_id, listing.config)
    return replace(architecture, is_embedding=True) if listing.is_embedding else architecture


@cache
def _quantizations() -> Mapping[str, Mapping[str, object]]:
    loaded: dict[str, dict[str, object]] = json.loads(
        (files(__package__) / "catalog" / QUANTIZATIONS).read_bytes()
    )
    return loaded


@cache
def _index() -> Mapping[str, Listing]:
    found: dict[str, Listing] = {}
    for path in sorted((files(__package__) / "catalog").iterdir(), key=lambda item: item.name):
        if path.name.endswith(".json") and path.name != QUANTIZATIONS:
            for key, listing in _listings(path.name, path.read_bytes()):
                found.setdefault(key, listing)
    return found


def _listings(file: str, content: bytes) -> Iterator[tuple[str, Listing]]:
    try:
        for entry in json.loads(content):
            yield from _entry_listings(entry)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CatalogError(f"model_ops/catalog/{file}: {error!r}") from error


def _entry_listings(entry: Mapping[str, object]) -> Iterator[tuple[str, Listing]]:
    ids, aliases, quantized = entry["ids"], entry.get("aliases", []), entry.get("quantized", {})
    config, parameters = entry["config"], entry.get("parameters")
    if not (
        isinstance(ids, list)
        and isinstance(config, dict)
        and isinstance(quantized, dict)
        and isinstance(aliases, list)
    ):
        raise TypeError(f"entry {ids!r}: ids and aliases are lists, config and quantized objects")
    first = Listing(
        model_id=ids[0],
        config=config,
        parameters=float(str(parameters)) if parameters else None,
        source=str(entry["source"]),
        parameters_source=str(entry.get("parameters_source", "")),
        is_embedding=bool(entry.get("embedding")),
    )
    for name in ids:
        yield name.lower(), first if name == ids[0] else replace(first, model_id=name)
    for name, quantization in quantized.items():
        yield name.lower(), replace(first, model_id=name, config=requantized(config, quantization))
    for alias in aliases:
        yield str(alias).lower(), first


def requantized(config: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return ``config`` with the named quantization of the catalog in place of its own."""
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    text = plain.get("text_config")
    if isinstance(text, Mapping):
        plain["text_config"] = {
            key: value for key, value in text.items() if key != "quantization_config"
        }
    quantization = _quantizations()[name]
    return {**plain, "quantization_config": quantization} if quantization else plain


@cache
def _bare_names() -> Mapping[str, Listing]:
    """Return the models whose name without its publisher is theirs alone."""
    by_name: dict[str, list[Listing]] = {}
    for key, listing in _index().items():
        if key == listing.model_id.lower() and "/" in key:
            by_name.setdefault(key.split("/", 1)[1], []).append(listing)
    return {name: listings[0] for name, listings in by_name.items() if len(listings) == 1}


@cache
def _spellings() -> Mapping[str, Listing]:
    """Return the models by their names' letters and numbers, with and without tuning words, where one shape alone answers."""
    found: dict[str, Listing] = {}
    shared: set[str] = set()
    for key, listing in _index().items():
        for spelt in spellings(key.rsplit("/", 1)[-1]):
            if found.setdefault(spelt, listing).config != listing.config:
                shared.add(spelt)
    return {spelt: listing for spelt, listing in found.items() if spelt not in shared}


def spellings(name: str) -> tuple[str, str]:
    """Return a name's letters and numbers, numbers apart: all of them, and without words that do not change a model's shape."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    return _run_together(words), _run_together([word for word in words if word not in SHAPELESS])


def _run_together(words: Sequence[str]) -> str:
    return re.sub(r"(?<=\d) (?=\d)", ".", " ".join(words)).replace(" ", "")


def _within_path(name: str) -> str:
    """Return the name at the end of a path, or the one a hub's cache holds; empty when it is no path."""
    parts = [part for part in re.split(r"[/\\]+", name) if part not in ("", ".")]
    cached = next((part for part in reversed(parts) if part.startswith("models--")), "")
    if cached:
        return "/".join(cached.split("--")[1:])
    is_path = (
        len(parts) > 2
        or name.startswith(("/", "./", "~"))
        or (len(parts) == 2 and parts[0].lower() == "models")
    )
    return parts[-1] if parts and is_path and ".." not in parts else ""


def _reupload(name: str) -> Listing | None:
    publisher, _, rest = name.rpartition("/")
    bare = rest.lower()
    for ending in sorted(ENDINGS, key=len, reverse=True):
        stem = bare.removesuffix(ending)
        exact = _bare_names().get(stem) if bare.endswith(ending) else None
        original = exact or (_spelt(stem) if bare.endswith(ending) else None)
        if original is not None and _may_publish(publisher, original):
            quantization = ENDINGS[ending]
            if exact is None and quantization is None:
                return original
            config = requantized(original.config, quantization) if quantization else original.config
            return replace(original, model_id=name, config=config)
    return None


def _spelt(name: str) -> Listing | None:
    return next(
        (found for spelt in spellings(name) if (found := _spellings().get(spelt)) is not None), None
    )


def _may_publish(publisher: str, original: Listing) -> bool:
    own = original.model_id.split("/", 1)[0].lower()
    return publisher.lower() in REUPLOADERS | {"", own}


def _hint(name: str) -> str:
    keys = {key: listing.model_id for key, listing in _index().items()}
    close = difflib.get_close_matches(name.lower(), keys, n=5, cutoff=0.6)
    if not close:
        bare = {key.rsplit("/", 1)[-1]: model_id for key, model_id in keys.items()}
        close = [
            bare[key].lower()
            for key in difflib.get_close_matches(
                name.lower().rsplit("/", 1)[-1], bare, n=5, cutoff=0.75
            )
        ]
    names = list(dict.fromkeys(keys[key] for key in close))
    return (
        f"close to it: {', '.join(names)}"
        if names
        else "budsim models lists the known ones; a config.json may be given instead"
    )


def _stored_config(name: str, registry_dir: Path) -> Mapping[str, object] | None:
    """Return the config.json below ``registry_dir``, ``None`` if there is none or the path leads outside."""
    root = registry_dir.resolve()
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        return None
    candidate = (root / relative).resolve()
    path = candidate if candidate.name == "config.json" else candidate / "config.json"
    if not path.resolve().is_relative_to(root) or not path.is_file():
        return None
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise InvalidInput(
            FIELD, f"{name}: config.json is larger than {MAX_CONFIG_BYTES} bytes", "a config.json"
        )
    return _parsed(name, path.read_bytes())


def _parsed(name: str, content: bytes) -> Mapping[str, object]:
    try:
        config = json.loads(content)
    except ValueError as error:
        raise InvalidInput(
            FIELD, f"{name}: config.json is not JSON ({error})", "a valid config.json"
        ) from error
    if not isinstance(config, dict):
        raise InvalidInput(FIELD, f"{name}: config.json holds no object", "a valid config.json")
    return config
