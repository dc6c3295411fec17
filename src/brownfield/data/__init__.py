"""From silo to model and back: formats, sources, pipeline, features; sinks follow."""
