"""What is served: a model's shape, and what follows from it (parameters, weight and KV bytes, matrices)."""
