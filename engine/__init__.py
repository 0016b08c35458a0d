"""An order's life, from the request to the position. Knows no lease and no leader election."""
