"""KV cache beyond the device, as requests ask for it and node groups tell it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB, GIGA
from budsim.engine_ops.engine_profile import StoreKind
from budsim.engine_ops.kv_store import (
    MOST_STORE_BYTES,
    MOST_STORE_GB_PER_S,
    KvStore,
    kv_store_of,
)
from budsim.simulator.wire.fields import Gib, Text, only_number, wrong_field

StoreGib = Annotated[
    float,
    Field(ge=0, le=MOST_STORE_BYTES / GIB, allow_inf_nan=False),
    BeforeValidator(only_number),
]
StoreSpeed = Annotated[
    float, Field(gt=0, le=MOST_STORE_GB_PER_S, allow_inf_nan=False), BeforeValidator(only_number)
]


class KvTierFields(BaseModel):
    """What a request says about KV cache in host memory, and in a store of all replicas."""

    kv_offload_gib: Gib = Field(
        0.0, description="host memory of each node that may hold KV cache of its replicas, GiB"
    )
    kv_store_gib: StoreGib = Field(
        0.0, description="KV cache in a store that all replicas share, GiB; 0: none"
    )
    kv_store: Text | None = Field(
        None,
        description="that store: mooncake (memory of all nodes), lmcache (a Redis server) or file "
        "(a folder that all nodes mount, whose kv_store_gb_per_s has to be stated); "
        "null: mooncake",
    )
    kv_store_gb_per_s: StoreSpeed | None = Field(
        None,
        description="GB/s the store delivers to all replicas together; null: what its network "
        "cards can",
    )

    @model_validator(mode="after")
    def _check_store(self) -> Self:
        """Refuse what the core would refuse, under the names of the request's fields."""
        try:
            _ = self.asked_store
        except InvalidInput as error:
            told = f"{error.problem}; expected {error.expected}"
            raise wrong_field(error.field, told) from error
        return self

    @property
    def asked_store(self) -> KvStore | None:
        """The store in the core's words, or None."""
        return kv_store_of(self.kv_store_gib, self.kv_store, self.kv_store_gb_per_s)


class SharedKvStore(BaseModel):
    """The store of KV cache that a deployment's replicas share; it has to run beside them."""

    kind: StoreKind = Field(description="mooncake, lmcache or file")
    capacity_gib: float = Field(description="KV cache it holds, GiB")
    gb_per_s: float | None = Field(
        None, description="GB/s it delivers to all replicas together; null: as its network cards"
    )
    nodes: list[str] = Field(
        [], description="nodes that each give an equal part of it; empty: those of the replicas"
    )

    def value(self) -> KvStore:
        """Return it in the core's words."""
        speed = self.gb_per_s
        return KvStore(
            kind=self.kind,
            capacity_bytes=self.capacity_gib * GIB,
            bytes_per_s=None if speed is None else speed * GIGA,
            nodes=tuple(self.nodes),
        )

    @classmethod
    def of(cls, store: KvStore) -> SharedKvStore:
        """Return a store in the wire's words."""
        speed = store.bytes_per_s
        return cls(
            kind=store.kind,
            capacity_gib=round(store.capacity_bytes / GIB, 3),
            gb_per_s=None if speed is None else speed / GIGA,
            nodes=list(store.nodes),
        )
