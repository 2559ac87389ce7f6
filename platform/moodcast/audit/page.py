"""An audit as one self-contained HTML page: nothing is loaded, no script runs, and it reads on a phone and on paper.

Names and texts come from files that others made: the template escapes them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import jinja2

from moodcast.audit import SEVERITIES, Audit

TEMPLATES = Path(__file__).parents[1] / "templates"
SHOWN = 400  # ids of one finding; the JSON has all
MOST = 300  # findings of one severity, likewise


def render(found: Audit, title: str) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    totals = Counter(item.severity for item in found.findings)
    groups = {severity: [item for item in found.findings if item.severity == severity] for severity in SEVERITIES}
    return environment.get_template("audit.html.j2").render(
        found=found,
        title=title,
        totals={severity: totals[severity] for severity in SEVERITIES},
        groups=groups,
        kinds={severity: Counter(item.kind for item in items) for severity, items in groups.items()},
        shown=SHOWN,
        most=MOST,
    )
