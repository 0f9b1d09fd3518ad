"""Write the frozen checksums of the small phantom, of this generator: python scripts/freeze_phantom.py"""

from __future__ import annotations

from mousecmr_data._utils.atomic import write_text
from mousecmr_data.phantom.rendering import render
from mousecmr_data.phantom.sampling import make_plans
from mousecmr_data.phantom.source import FROZEN_FILE, freeze
from mousecmr_data.schema import SMALL_PHANTOM


def main() -> None:
    lines: list[str] = []
    for mouse, plan in make_plans(SMALL_PHANTOM).items():
        row = {"mouse": mouse, **freeze(render(plan))}
        if not lines:
            lines.append(",".join(row))
        lines.append(",".join(row.values()))
    write_text(FROZEN_FILE, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
