"""From step times to the service of a deployment: latency and throughput under load."""
