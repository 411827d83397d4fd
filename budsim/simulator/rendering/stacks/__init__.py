"""A plan for serving stacks that run on Kubernetes beside their own operators and charts."""
