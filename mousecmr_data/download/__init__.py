"""Download, cache and verify the files of a manifest. All requests are made by :mod:`mousecmr_data.download.http`."""
