"""Tables of measurements, importers of benchmark results, and how each source measured."""
