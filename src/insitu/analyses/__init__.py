"""Questions as SQL over a session's tables; stdlib/ has views that users may use (see session/stdlib.py)."""
