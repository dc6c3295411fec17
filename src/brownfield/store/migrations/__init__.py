"""How a store of any older version becomes a store of this one; ``versions`` holds one step per file."""
