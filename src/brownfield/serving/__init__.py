"""One running workspace: the prediction path, its doors, its workers and its fallbacks."""
