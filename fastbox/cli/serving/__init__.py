"""The command server: processes that have imported everything and run command lines for the native
client (``_core/client``). See docs/client.md.

The supervisor starts a *master*, which forks *workers*, which accept clients themselves.
"""
