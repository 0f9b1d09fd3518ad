"""The functions behind the page's buttons: each finds the visitor's own room and hands over to the desk."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mousecmr_data._utils.progress import format_bytes
from mousecmr_data.web import words
from mousecmr_data.web.desk import Desk
from mousecmr_data.web.door import COOKIE
from mousecmr_data.web.rooms import Room

NOTHING: tuple[Any, ...] = ({}, "", "")
"""Viewer, tables and download, empty."""


class Handlers:
    """``fields`` are weights, voxel size, axes and frame time, as typed."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def entered(self, request: gr.Request) -> tuple[Any, ...]:
        """A page was opened: what its place for uploads needs to know, and its three buttons, which work from now."""
        room = self.desk.rooms.open(str(request.session_hash), _owner(request))
        ready = [gr.Button(interactive=True) for _ in range(3)]
        return {"token": room.token, "limit_mb": self.desk.options.upload_mb}, *ready

    def left(self, request: gr.Request) -> None:
        """A page was closed, or reloaded."""
        self.desk.rooms.leave(str(request.session_hash))

    def looked(self, weights: str, spacing: str, axes: str, time: str, request: gr.Request) -> str:
        """Files came, or a field changed."""
        room = self._room(request)
        return self.desk.look(room, weights, spacing, axes, time) if room else words.refusal(words.GONE, words.RELOAD)

    def example(self, weights: str, spacing: str, axes: str, time: str, request: gr.Request) -> tuple[Any, ...]:
        """The example was asked for: what was seen, and the results of before, gone."""
        room = self._room(request)
        if room is None:
            return words.refusal(words.GONE, words.RELOAD), "", *NOTHING
        return self.desk.example(room, weights, spacing, axes, time), "", *NOTHING

    def estimated(self, weights: str, request: gr.Request) -> str:
        """Other weights were chosen."""
        room = self._room(request)
        return self.desk.said(room, weights) if room else words.refusal(words.GONE, words.RELOAD)

    def removed(self, request: gr.Request) -> tuple[Any, ...]:
        """All files are to go: what was seen, the status, and the results, empty."""
        room = self._room(request)
        if room:
            self.desk.empty(room)
        return "", "" if room else words.refusal(words.GONE, words.RELOAD), *NOTHING

    def segmented(
        self,
        weights: str,
        spacing: str,
        axes: str,
        time: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[Any, ...]:
        """The button: status, viewer, tables, download."""
        room = self._room(request)
        if room is None:
            return words.refusal(words.GONE, words.RELOAD), *NOTHING

        def tell(share: float, text: str) -> None:
            progress(share, desc=text)

        said, outcome = self.desk.segment(room, tell, weights, spacing, axes, time)
        if outcome is None or not outcome.views:
            return said, *NOTHING
        link = f"mice/{room.token}/results.zip"
        size = format_bytes(outcome.zip_bytes)
        return (
            said,
            {"token": room.token, "views": outcome.views},
            words.results(outcome),
            f'<a href="{link}" download="mousecmr-results.zip">Download everything ({size} zip)</a>'
            "<p>Masks on the images' own grid (NIfTI, and DICOM SEG for DICOM), tables (CSV), movie, montage, curve, "
            "and a manifest with versions, weights and settings.</p>",
        )

    def _room(self, request: gr.Request) -> Room | None:
        return self.desk.rooms.of(str(request.session_hash), _owner(request))


def _owner(request: gr.Request) -> str:
    """The name that this browser was given at the door."""
    inner = request.request
    return str(inner.cookies.get(COOKIE, "")) if inner is not None else ""
