"""Ways out of the house, one a kind of destination."""
