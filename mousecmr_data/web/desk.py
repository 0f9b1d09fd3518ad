"""What happens when something is pressed: each function takes what the page sends and gives what it shows.

No traceback reaches the page: an error of the library is said in its own words, anything else is logged here and
named by a number.
"""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mousecmr_data.errors import MouseCMRError
from mousecmr_data.pipeline.batch import hide_temporary_paths
from mousecmr_data.web import check, form, job, words
from mousecmr_data.web.job import Outcome, Segmenters, Tell
from mousecmr_data.web.options import Options
from mousecmr_data.web.pace import Pace
from mousecmr_data.web.rooms import Room, Rooms

LOG = logging.getLogger("mousecmr_data.web")


@dataclass
class Desk:
    """Holds what all visitors share: the rooms, the loaded weights, and the pace of this machine."""

    options: Options
    rooms: Rooms
    segmenters: Segmenters = field(init=False)
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        self.segmenters = Segmenters(self.options.cache)

    def look(self, room: Room, *fields: object) -> str:
        """Read what lies in the room, and say it."""

        def looked() -> str:
            settings = form.settings(*fields)
            with room.work():
                if room.left:
                    return ""
                room.seen = check.check(room.inputs(), settings, room.folder)
            return self.said(room, str(settings.weights))

        return hide_temporary_paths(_plainly(looked), room.folder)

    def said(self, room: Room, weights: str) -> str:
        """What was seen before, with the expected time for ``weights``."""
        images = sum(m.images for m in room.seen)
        return words.seen(room.seen, *self.pace.expected(weights, images), weights)

    def example(self, room: Room, *fields: object) -> str:
        """Put a synthetic mouse into the room, in place of what is there, and look at it."""

        def brought() -> str:
            from mousecmr_data.phantom.source import PhantomSource

            source, mouse = PhantomSource("phantom", self.options.cache), self.options.example_mouse
            source.ready([mouse])
            with room.work():
                room.empty()
                target = room.place(0, f"SYNTHETIC_{mouse}.h5")
                target.parent.mkdir(parents=True)
                room.admit(source.file(mouse).stat().st_size, self.options.upload_bytes, new=True)
                shutil.copyfile(source.file(mouse), target)
            return self.look(room, *fields)

        return _plainly(brought)

    def empty(self, room: Room) -> None:
        """Remove the room's files."""
        with room.work():
            room.empty()

    def segment(self, room: Room, tell: Tell, *fields: object) -> tuple[str, Outcome | None]:
        """Do the job; what to say, and the outcome where there is one."""
        found: list[Outcome] = []

        def done() -> str:
            settings = form.settings(*fields)
            if not room.inputs():
                return words.refusal("There is nothing to segment yet.", "drop files above, or load the example")
            try:
                found.append(job.run(room, settings, self.segmenters, self.pace, tell))
            except job.PageLeft:
                return ""
            except MouseCMRError as e:
                return words.error(e, hint=words.hint_for(e, settings.weights))
            return words.finished(found[0])

        return hide_temporary_paths(_plainly(done), room.folder), found[0] if found else None


def _plainly(do: Callable[[], Any]) -> str:
    """What ``do`` says, or its error in words."""
    try:
        return str(do())
    except MouseCMRError as e:
        return words.error(e)
    except Exception:
        number = secrets.token_hex(3)
        LOG.exception("page error %s", number)
        return words.refusal(
            f"Something went wrong that this page does not know (number {number}).",
            "look for this number where mousecmr serve runs; try the same files with mousecmr segment",
        )
