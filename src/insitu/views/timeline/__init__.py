"""The timeline of a session: what its threads did, and what happened in them, as one HTML page."""

from insitu.views.timeline.page import timeline_html, timeline_shell
from insitu.views.timeline.tables import Timeline, timeline

__all__ = ["Timeline", "timeline", "timeline_html", "timeline_shell"]
