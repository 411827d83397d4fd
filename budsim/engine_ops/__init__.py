"""By what: serving engines, compressors and routers as values behind one interface."""
