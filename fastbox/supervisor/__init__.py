"""The supervisor: one process per store that does what needs somebody to be there.

Restart policies, health checks, housekeeping. It holds nothing that is not on disk: it may be
killed at any instant, and the next one goes on. See docs/supervisor.md.
"""
