"""A stand-in IB Gateway on the TWS wire protocol. Imports nothing of the adapter."""
