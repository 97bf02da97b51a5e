"""The `tracer` command: one module per sub-command, which parses, calls one stage and reports."""
