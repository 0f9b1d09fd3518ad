"""Serve the web page of ``mousecmr serve``: upload mice, get masks, numbers and pictures.

:func:`mousecmr_data.web.app.create_app` returns the ASGI app, :func:`mousecmr_data.web.app.launch` serves it. Mice are
segmented by :mod:`mousecmr_data.pipeline`, as on the command line. See docs/web.md.
"""

from mousecmr_data._utils.environment import require_extra as _require_extra
from mousecmr_data._utils.network import disable_telemetry as _disable_telemetry

_disable_telemetry()
_require_extra("web", "gradio")
