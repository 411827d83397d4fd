"""On what: devices by data sheet, how they reach each other, and what of them is free in a cluster."""
