"""Boxes for other people's code: see ``box.Sandbox``, ``aio.AsyncSandbox``, ``many.run_many``."""
