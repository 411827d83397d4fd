"""What is stored: runs, plans and events, as records, tables and transactions."""
