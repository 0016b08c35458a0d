"""Benchmarks: figures from one run each, written to bench/results.json; nothing here is asserted."""
