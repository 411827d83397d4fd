"""Prefill and decode on workers of their own: two pools, the link between them, and the queues."""
