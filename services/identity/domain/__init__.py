"""Pure: the graph, what is decided about it, and how decisions change it."""
