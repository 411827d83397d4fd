"""From a question to an answer: search, placement, cost, plans, and the service around them."""
