"""The command line for people: every question and act of the mesh, over the public gRPC services alone.

Knows no venue. Nothing here is imported by a service, and nothing heavy is imported before a command runs, so that
`--help` and completion answer at once.
"""
