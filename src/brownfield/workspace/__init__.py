"""What people do with a workspace as a whole: start it, check it, look after it, demonstrate it."""
