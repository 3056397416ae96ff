"""The benchmark of the reader study: what it costs, and what the simulation of its endpoint says."""
