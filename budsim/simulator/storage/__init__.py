"""Storage of runs, plans and events: records, tables and transactions."""
