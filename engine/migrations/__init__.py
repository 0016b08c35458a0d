"""The schema's history. `engine.migrate` runs it; each step is plain SQL beside its three lines of Python."""
