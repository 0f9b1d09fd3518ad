"""Download, cache and verify files. Only :mod:`mousecmr_data.download.http` makes network connections."""
