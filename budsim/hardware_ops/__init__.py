"""On what: devices by data sheet, their links, and what of them is free in a cluster."""
