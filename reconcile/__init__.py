"""Making two ledgers agree: the broker's and ours."""
