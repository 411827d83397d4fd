"""What a request says about the costs of devices and power."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from budsim.hardware_ops.device import PriceBasis
from budsim.simulator.site_costs import AskedCosts
from budsim.simulator.wire.fields import only_number

Pue = Annotated[float, Field(ge=1, le=5, allow_inf_nan=False), BeforeValidator(only_number)]
UsdPerKwh = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False), BeforeValidator(only_number)]
GramsPerKwh = Annotated[
    float, Field(ge=0, le=2000, allow_inf_nan=False), BeforeValidator(only_number)
]


class CostFields(BaseModel):
    """Prices and power in place of the site's settings; null or left out: as the site has them."""

    price_basis: PriceBasis | None = Field(
        None, description="rent, or the cost of owning the devices; null: the site's PRICE_BASIS"
    )
    pue: Pue | None = Field(
        None,
        description="power of the data centre over that of its computers; null: the site's PUE",
    )
    usd_per_kwh: UsdPerKwh | None = Field(
        None, description="price of power, of owned devices; null: the site's USD_PER_KWH"
    )
    g_co2_per_kwh: GramsPerKwh | None = Field(
        None, description="carbon intensity of the grid, g/kWh; null: the site's G_CO2_PER_KWH"
    )

    @property
    def asked_costs(self) -> AskedCosts:
        """The same in the core's words."""
        return AskedCosts(
            basis=self.price_basis,
            pue=self.pue,
            usd_per_kwh=self.usd_per_kwh,
            g_co2_per_kwh=self.g_co2_per_kwh,
        )
