"""How long a recording took."""

from insitu.session.profile import Profile

__all__ = ["duration_ns"]


def duration_ns(profile: Profile) -> int:
    """Nanoseconds as the recorder says, else from the first sample to the last; 0 if neither is known."""
    start, end = profile.info.get("start_monotonic_ns"), profile.info.get("end_monotonic_ns")
    if isinstance(start, int) and isinstance(end, int) and end > start:
        return end - start
    return int(profile.ts_ns.max() - profile.ts_ns.min()) if len(profile) else 0
