"""`adapter demo`: orders flow, the leader is killed, and a judge counts at the broker."""
