"""A front door: the web page. Thin; all work is done below."""
