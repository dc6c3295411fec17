"""What people do with a workspace as a whole."""
