"""What `run.py` is made of: processes, a router in front of them, a Redis, the rows of the table."""


class DemoError(Exception):
    """The demo cannot be set up; the text says why and what to do."""
