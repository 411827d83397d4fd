"""What is served: a model's shape, and its parameters, weight bytes, KV bytes and matrices."""
