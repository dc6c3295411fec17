<<<<<<< .merge_file_g2s8ii
"""What people do with a workspace as a whole."""
=======
"""What people do with a workspace as a whole: start it, check it, look after it, demonstrate it."""
>>>>>>> .merge_file_vtzeJs
