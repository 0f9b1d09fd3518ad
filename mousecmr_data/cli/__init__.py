"""A front door: the command ``mousecmr``, one verb a file. All work is done below."""
