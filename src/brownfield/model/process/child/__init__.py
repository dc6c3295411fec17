"""The model's side of the socket: stand-alone, it needs numpy and the engine, and never imports ``brownfield``.

It is started as ``python -I .../process/child/__main__.py OPTIONS`` by whichever interpreter the model wants.
"""
