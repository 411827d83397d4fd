"""The core of the simulator: a question becomes plans, or reasons why there are none."""
