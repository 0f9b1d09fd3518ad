"""The review screen: look at the masks of a results folder, correct them, and measure them again.

The screen is plain files in ``static/`` that speak to the routes of :func:`make_routes`; docs/reviewing.md describes
them. The page of ``mousecmr serve`` has them for each session, ``mousecmr review`` for one folder
(:func:`create_app`). What a correction means is in :mod:`mousecmr_data.pipeline.review`.
"""

from __future__ import annotations

import gzip
import os
import secrets
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mousecmr_data._utils.atomic import PART, to_json_value
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.download.cache import get_own_weights_folder
from mousecmr_data.errors import ArgumentError, MissingDataError, MouseCMRError, OutputError
from mousecmr_data.formats.build import ATTR_FRAME_TIME_KNOWN
from mousecmr_data.formats.masks import find_result
from mousecmr_data.metrics.propagation import propagate_masks
from mousecmr_data.pipeline.analysis import AUTO, FINAL_NUMBERS
from mousecmr_data.pipeline.batch import MANIFEST_FILE, update_tables
from mousecmr_data.pipeline.quality import FLAGS
from mousecmr_data.pipeline.review import (
    UNKNOWN_READER,
    ReviewedResult,
    SliceStatus,
    assign_codes,
    is_measured,
    open_result,
    read_review,
    update_result,
)
from mousecmr_data.pipeline.writers import RECORD_FILE, read_record
from mousecmr_data.schema import HOST
from mousecmr_data.schema.labels import COLOURS, MEANINGS
from mousecmr_data.schema.manifest import get_constant
from mousecmr_data.schema.variables import DIMS, PREDICTED
from mousecmr_data.web.config import ServerConfig
from mousecmr_data.web.connections import open_listener, serve
from mousecmr_data.web.job import format_duration, pack_results
from mousecmr_data.web.middleware import NOT_FOUND_TEXT, AccessMiddleware
from mousecmr_data.web.sessions import SessionStore

REVIEW_PATH = "/mice/{token}/review"
"""Path of the screen; the middleware allows what begins with /mice/."""
STATIC_TYPES = {
    "review.css": "text/css",
    "review.js": "text/javascript",
    "review_curve.js": "text/javascript",
    "review_data.js": "text/javascript",
    "review_drawing.js": "text/javascript",
    "review_saving.js": "text/javascript",
    "review_server.js": "text/javascript",
}
STATIC = Path(__file__).with_name("static")
NO_STORE = {"Cache-Control": "no-store"}
MAX_OPEN = 4
"""Number of mice whose images and masks stay in memory."""
MAX_NAME = 80
"""Limit of a reader's name."""
MAX_MINUTES = 30.0
"""Limit of the time that one change may add."""
GREY_PERCENTILE = 99.9
"""Grey value that becomes 255; the image's minimum becomes 0."""


@dataclass
class OpenMouse:
    """A mouse whose result is open; ``lock`` is held while it is changed."""

    result: ReviewedResult
    stamp: tuple[int, int]
    """Of the record, which a new measurement replaces."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    _grey: NDArray[np.uint8] | None = None

    def get_grey(self) -> NDArray[np.uint8]:
        """Return the grey values (frame, slice, y, x), 0 to 255."""
        if self._grey is None:
            images = self.result.read_images().astype(np.float32)
            low, high = float(images.min()), float(np.percentile(images, GREY_PERCENTILE))
            self._grey = (np.clip((images - low) / max(high - low, 1e-6), 0, 1) * 255).round().astype(np.uint8)
        return self._grey


class OpenMice:
    """The mice that browsers looked at last; a result that was written anew is read anew."""

    def __init__(self) -> None:
        self._mice: OrderedDict[Path, OpenMouse] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, folder: Path) -> OpenMouse:
        """Return the open result in ``folder``."""
        with self._lock:
            about = (folder / RECORD_FILE).stat()
            mouse = self._mice.pop(folder, None)
            if mouse is None or mouse.stamp != (about.st_ino, about.st_mtime_ns):
                mouse = OpenMouse(open_result(folder), (about.st_ino, about.st_mtime_ns))
            self._mice[folder] = mouse
            while len(self._mice) > MAX_OPEN:
                self._mice.popitem(last=False)
            return mouse

    def forget(self, folder: Path) -> None:
        """Read ``folder`` anew the next time."""
        with self._lock:
            self._mice.pop(folder, None)


def list_results(folder: Path) -> dict[str, Path]:
    """Return the folders of the mice in ``folder``, by name; it may be the folder of one mouse itself."""
    if find_result(folder):
        return {folder.resolve().name: folder}
    paths = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(PART)]
    return {path.name: path for path in paths if find_result(path)}


def update_results(folder: Path, archive: Path | None = None) -> list[str]:
    """Measure the mice in ``folder`` that were corrected, and write the tables again; return their names.

    An ``archive`` of what they replace is removed.
    """
    changed = {name: path for name, path in list_results(folder).items() if not is_measured(path)}
    for path in changed.values():
        update_result(path)
    tables = next((f for f in (folder, folder.resolve().parent) if (f / MANIFEST_FILE).is_file()), None)
    if changed and tables:
        update_tables(tables)
    if changed and archive:
        archive.unlink(missing_ok=True)
    return list(changed)


@dataclass(frozen=True)
class ReviewedFolder:
    """The results that a link may show and change."""

    results: Path
    archive: Path
    """Where to write the zip of the results."""
    hold: Callable[[], AbstractContextManager[Any]]
    """Keeps the folder, for one caller at a time, while tables and zip are written."""
    reader: str = ""
    """Who reviews; empty: the name that the screen sends."""
    codes: Mapping[str, str] = field(default_factory=dict)
    """In a blind review, what stands for the names of the mice, in the order of the screen."""

    def list_mice(self) -> dict[str, Path]:
        """Return the folders of the mice by the names that are shown."""
        found = list_results(self.results)
        return {code: found[name] for name, code in self.codes.items() if name in found} if self.codes else found

    def hide_names(self, text: str) -> str:
        """Return ``text`` without the path of the results and, in a blind review, the names of the mice."""
        text = text.replace(f"{self.results}{os.sep}", "")
        for name in sorted(self.codes, key=len, reverse=True):
            text = text.replace(name, self.codes[name])
        return text

    may_tune: bool = False
    """Whether the visitor may tune a network on this computer, which keeps the weights."""
    cache: Path | None = None
    is_archive_temporary: bool = False
    """The zip is removed when it was sent."""


class Tuning:
    """The tuning of a network, one at a time, in a thread that ends with the program; and how far it is."""

    def __init__(self) -> None:
        self._running = threading.Lock()
        self.status: dict[str, Any] = {"running": False, "text": ""}

    def start(self, folder: ReviewedFolder, name: str) -> None:
        """Tune on the reviewed mice in ``folder``; the weights get ``name``.

        Raises :class:`ArgumentError` for a name that cannot be used, and :class:`OutputError` while another one runs.
        """
        from mousecmr_data.training.tuning import TuningEvent, check_name, tune  # an extra; imports torch

        check_name(name, folder.cache)
        if not self._running.acquire(blocking=False):
            raise OutputError("A network is being tuned already.", "one at a time", "wait for it")

        def report(event: TuningEvent) -> None:
            left = format_duration(event.seconds_left)
            text = f"Tuning {name}, {event.text}: {100 * event.share:.0f} %, at most {left} left."
            self.status = {"running": True, "text": text}

        def run() -> None:
            text = f"{name} was not tuned: an unexpected error."
            try:
                output = get_own_weights_folder(folder.cache) / f"{name}-tuning"
                result = tune(folder.results, output, name, cache=folder.cache, progress=report)
                before, after = result.dice
                dice = f"Mean Dice of mice that were left out: {before:.3f} before, {after:.3f} after."
                done = f"{name} is ready: choose it under Weights, or give it as --weights {name}."
                text = f"{done if result.weights else f'No better: {name} was not written.'} {dice}"
            except MouseCMRError as e:
                text = folder.hide_names(f"{name} was not tuned. {e.found} Needed: {e.expected}.")
            finally:
                self.status = {"running": False, "text": text}
                self._running.release()

        self.status = {"running": True, "text": f"Tuning {name} …"}
        threading.Thread(target=run, name="tuning", daemon=True).start()


def make_routes(find_folder: Callable[[Request], ReviewedFolder | None]) -> list[Route]:
    """Return the routes of the screen. Where ``find_folder`` returns None, everything gives 404."""
    opened, tuning = OpenMice(), Tuning()

    def answer(action: Callable[[Request, ReviewedFolder], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            folder = find_folder(request)
            if folder is None or not folder.results.is_dir():
                return PlainTextResponse(NOT_FOUND_TEXT, 404)
            request.state.body = await request.body()
            try:
                return await run_in_threadpool(action, request, folder)
            except (MouseCMRError, OSError, LookupError, ValueError) as e:
                return _make_refusal(e, folder)

        return endpoint

    def answer_mouse(action: Callable[[Request, OpenMouse], Response]) -> Callable[[Request], Awaitable[Response]]:
        def act(request: Request, folder: ReviewedFolder) -> Response:
            path = folder.list_mice()[request.path_params["mouse"]]
            mouse = opened.open(path)
            request.state.folder = folder
            try:
                with mouse.lock:
                    return action(request, mouse)
            except (OutputError, OSError):  # somebody else changed the files
                opened.forget(path)
                raise

        return answer(act)

    def update(_: Request, folder: ReviewedFolder) -> Response:
        with folder.hold():
            measured = update_results(folder.results, folder.archive)
        return JSONResponse({"measured": [folder.codes.get(name, name) for name in measured]})

    def download(_: Request, folder: ReviewedFolder) -> Response:
        if folder.codes:
            return PlainTextResponse("The files hold the names of the mice: a blind review has no download.", 403)
        with folder.hold():
            update_results(folder.results, folder.archive)
            if not folder.archive.exists():
                pack_results(folder.results, folder.archive)
        after = BackgroundTask(folder.archive.unlink, missing_ok=True) if folder.is_archive_temporary else None
        name = "mousecmr-results.zip"
        return FileResponse(
            folder.archive, headers=NO_STORE, media_type="application/zip", background=after, filename=name
        )

    def describe_tuning(_: Request, folder: ReviewedFolder) -> Response:
        return JSONResponse(tuning.status if folder.may_tune else None)

    def start_tuning(request: Request, folder: ReviewedFolder) -> Response:
        if not folder.may_tune:
            return PlainTextResponse(NOT_FOUND_TEXT, 404)
        tuning.start(folder, request.query_params["name"].strip())
        return JSONResponse(tuning.status)

    routes: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/", answer(lambda _, __: FileResponse(STATIC / "review.html", media_type="text/html"))),
        ("GET", "/static/{name}", answer(_send_static)),
        ("GET", "/mice", answer(lambda _, folder: JSONResponse(_list_mice(folder)))),
        ("GET", "/mice/{mouse}/meta", answer_mouse(_send_description)),
        ("GET", "/mice/{mouse}/numbers", answer_mouse(lambda _, mouse: _send_numbers(mouse.result.compute_numbers()))),
        ("GET", "/mice/{mouse}/images/{frame:int}", answer_mouse(_send_image)),
        ("GET", "/mice/{mouse}/masks", answer_mouse(lambda _, mouse: _send_labels(mouse.result.masks))),
        ("GET", "/mice/{mouse}/automatic/{frame:int}/{slice:int}", answer_mouse(_send_automatic)),
        ("GET", "/mice/{mouse}/proposal/{frame:int}/{slice:int}", answer_mouse(_send_proposal)),
        ("GET", "/mice/{mouse}/exclusions", answer_mouse(lambda _, m: JSONResponse(m.result.propose_exclusions()))),
        ("PUT", "/mice/{mouse}/slices/{frame:int}/{slice:int}", answer_mouse(_put_slice)),
        ("PUT", "/mice/{mouse}/phases", answer_mouse(_put_phases)),
        ("POST", "/mice/{mouse}/propagate/{slice:int}", answer_mouse(_propagate)),
        ("POST", "/tables", answer(update)),
        ("GET", "/results.zip", answer(download)),
        ("GET", "/tuning", answer(describe_tuning)),
        ("POST", "/tuning", answer(start_tuning)),
    ]
    return [Route(f"{REVIEW_PATH}{path}", endpoint, methods=[method]) for method, path, endpoint in routes]


def _make_refusal(e: Exception, folder: ReviewedFolder) -> Response:
    """Return the answer for an error, as plain text without paths."""
    if isinstance(e, FileNotFoundError | LookupError | MissingDataError):
        text = NOT_FOUND_TEXT if not isinstance(e, MouseCMRError) else folder.hide_names(e.found)
        return PlainTextResponse(text, 404)
    if isinstance(e, MouseCMRError):
        return PlainTextResponse(folder.hide_names(str(e)), 400 if isinstance(e, ArgumentError) else 409)
    if isinstance(e, OSError):
        return PlainTextResponse("The results cannot be written. Is the disk full?", 507)
    return PlainTextResponse("This is not a request of the review screen.", 400)


def _send_static(request: Request, _: ReviewedFolder) -> Response:
    name = request.path_params["name"]
    return FileResponse(STATIC / name, media_type=STATIC_TYPES[name])


def _list_mice(folder: ReviewedFolder) -> list[dict[str, Any]]:
    rows = []
    for name, path in folder.list_mice().items():
        record = read_record(path)
        if record:
            readers = ", ".join(read_review(path).readers)
            rows.append({"mouse": name, "flags": len(record["flags"]), "readers": readers})
    return rows


def _send_description(request: Request, mouse: OpenMouse) -> Response:
    """Send what is known of a mouse; in a blind review without its name, and without sentences that may hold it."""
    folder: ReviewedFolder = request.state.folder
    about = {**_describe(mouse.result), "reader": folder.reader, "blind": bool(folder.codes)}
    if folder.codes:
        about["mouse"] = request.path_params["mouse"]
        about["flags"] = [
            {**f, "message": FLAGS.get(f["flag"], "") if f["frame"] is f["slice"] is None else f["message"]}
            for f in about["flags"]
        ]
    return JSONResponse(about)


def _describe(result: ReviewedResult) -> dict[str, Any]:
    ds, row, record = result.ds, result.record["mouse"], result.record
    known = bool(ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True)) and ds.sizes["frame"] > 1
    about = {
        "mouse": row["mouse"],
        "shape": [ds.sizes[dim] for dim in DIMS],
        "voxel_mm": list(get_spacing(ds)),
        "density": float(get_constant("myocardial_density")),
        "time_ms": ds["time"].values.tolist() if known else None,
        "flags": [{k: flag[k] for k in ("flag", "message", "frame", "slice")} for flag in record["flags"]],
        "flag_texts": {flag["flag"]: FLAGS.get(flag["flag"], "") for flag in record["flags"]},
        "slices": [vars(s) for s in result.review.slices],
        "numbers": result.compute_numbers(),
        "automatic": {name: row.get(f"{name}_auto", row.get(name)) for name in FINAL_NUMBERS},
        "weights": str(ds[PREDICTED].attrs.get("weights", "")),
        "marks": list(record["marks"]),
        "labels": [
            {"label": int(label), "name": MEANINGS[label].removeprefix("LV "), "colour": colour}
            for label, colour in COLOURS.items()
        ],
    }
    return dict(to_json_value(about))


def _send_numbers(numbers: dict[str, Any]) -> Response:
    return JSONResponse(to_json_value(numbers))


def _send_labels(labels: NDArray[np.uint8]) -> Response:
    content = gzip.compress(labels.tobytes(), 1)  # nearly all are zeros
    headers = {**NO_STORE, "Content-Encoding": "gzip"}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _send_image(request: Request, mouse: OpenMouse) -> Response:
    grey = mouse.get_grey()[request.path_params["frame"]]
    return Response(grey.tobytes(), media_type="application/octet-stream", headers=NO_STORE)


def _send_automatic(request: Request, mouse: OpenMouse) -> Response:
    return _send_labels(mouse.result.automatic[request.path_params["frame"], request.path_params["slice"]])


def _send_proposal(request: Request, mouse: OpenMouse) -> Response:
    return _send_labels(mouse.result.propose_slice(request.path_params["frame"], request.path_params["slice"]))


def clean_reader(name: str) -> str:
    """Return a reader's name in one line; empty if it cannot be printed."""
    name = " ".join(name.split())[:MAX_NAME]
    return name if name.isprintable() else ""


def _read_reader(request: Request) -> dict[str, Any]:
    """Return the reader's name and minutes in a request, as arguments of a correction."""
    name = request.state.folder.reader or clean_reader(request.query_params.get("reader", ""))
    minutes = float(request.query_params.get("minutes", 0))
    if not 0 <= minutes <= MAX_MINUTES:
        raise ArgumentError(f"The time is {minutes} minutes.", f"0 to {MAX_MINUTES:g}")
    return {"reader": name or UNKNOWN_READER, "minutes": minutes}


def _put_slice(request: Request, mouse: OpenMouse) -> Response:
    status: SliceStatus | str = request.query_params["status"]
    if status not in get_args(SliceStatus):
        raise ArgumentError(f"The status is {status[:20]!r}.", " or ".join(get_args(SliceStatus)))
    labels = None
    if status == "edited":
        body: bytes = request.state.body
        size = mouse.result.masks.shape[2:]
        if len(body) != size[0] * size[1]:
            raise ArgumentError(f"The mask has {len(body)} bytes.", f"{size[0]} × {size[1]}, one for each pixel")
        labels = np.frombuffer(body, np.uint8).reshape(size)
    frame, slice_ = request.path_params["frame"], request.path_params["slice"]
    numbers = mouse.result.apply_edit(frame, slice_, labels, status=status, **_read_reader(request))  # type: ignore[arg-type]
    return _send_numbers(numbers)


def _put_phases(request: Request, mouse: OpenMouse) -> Response:
    ed, es = (int(request.query_params[name]) for name in ("ed", "es"))
    return _send_numbers(mouse.result.set_phases(ed, es, **_read_reader(request)))


def _propagate(request: Request, mouse: OpenMouse) -> Response:
    result, slice_ = mouse.result, request.path_params["slice"]
    status = result.review.get_status(result.masks.shape[:2])[:, slice_]
    corrected = np.flatnonzero(status != AUTO).tolist()
    return _send_labels(propagate_masks(result.masks[:, slice_], corrected))


def create_app(
    folder: Path,
    token: str,
    archive: Path,
    config: ServerConfig,
    *,
    reader: str = "",
    codes: Mapping[str, str] | None = None,
) -> Starlette:
    """Return an app with the review screen of ``folder`` at ``/mice/<token>/review/``.

    Every other address, and every other token, gives 404. ``archive``: where the zip to download is written.
    ``reader`` is who reviews; ``codes`` of :func:`~mousecmr_data.pipeline.review.assign_codes` make it a blind review.
    """
    lock = threading.Lock()
    reviewed = ReviewedFolder(
        folder, archive, lambda: lock, reader, codes or {}, may_tune=not codes, cache=config.cache
    )

    def find_folder(request: Request) -> ReviewedFolder | None:
        given = str(request.path_params["token"])
        return reviewed if secrets.compare_digest(given.encode(), token.encode()) else None

    app = Starlette(routes=make_routes(find_folder))
    app.add_middleware(AccessMiddleware, config=config, token="", sessions=SessionStore())
    return app


def launch(
    folder: Path,
    port: int = 0,
    *,
    reader: str = "",
    blind: bool = False,
    opened: Callable[[str], object] | None = None,
) -> None:
    """Serve the review screen of ``folder`` on this computer until it is interrupted; 0: at any free port.

    ``reader`` is who reviews; empty: the name typed on the screen. ``blind`` shows this reader codes in place of names,
    in a random order. ``opened`` is called with the link, which holds a random token. Raises
    :class:`~mousecmr_data.errors.MissingDataError` if the folder holds no results, and :class:`ArgumentError` if the
    port is in use, or ``blind`` has no reader.
    """
    if not folder.is_dir() or not list_results(folder):
        raise MissingDataError(
            f"{folder} holds no results.", "a folder that mousecmr segment wrote", "mousecmr segment INPUTS -o FOLDER"
        )
    reader = clean_reader(reader)
    if blind and not reader:
        raise ArgumentError(
            "A blind review has no reader.", "a name: the order of the mice is kept for it", "--reader AB"
        )
    codes = assign_codes(folder, reader) if blind else {}
    token = secrets.token_urlsafe(32)
    with open_listener(HOST, port) as listener, tempfile.TemporaryDirectory(prefix="mousecmr-review-") as scratch:
        app = create_app(folder, token, Path(scratch) / "results.zip", ServerConfig(), reader=reader, codes=codes)
        if opened:
            opened(f"http://{HOST}:{listener.getsockname()[1]}{REVIEW_PATH.format(token=token)}/")
        serve(app, listener)
