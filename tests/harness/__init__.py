"""Real servers that the tests start for themselves, each on a free port, with a fixture beside its class."""
