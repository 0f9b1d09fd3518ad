"""A front door: the page of ``mousecmr serve``, where a lab drops its mice and gets masks, numbers and pictures.

``server.create_app`` makes the app (ASGI), ``server.launch`` serves it. The work is done by ``mousecmr_data.pipeline``,
which the command line shares. See docs/web.md.
"""
