"""The gateway's side of the processes that run models."""
