"""Floor 1: bytes. Where files lie, how they get there, and proof that they are the right ones.

The only floor that touches the network, and of it only :mod:`mousecmr_data.download.http` does.
"""
