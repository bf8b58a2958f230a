"""The whole mesh on one machine: a small supervisor, the table of services, and a walk through the main job.

`python -m deploy.local up` starts everything and stays; `demo` does the same, checks it and exits 0 or 1.
"""
