"""Work beside requests: loops, Dapr workflows and worker processes."""
