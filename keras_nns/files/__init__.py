"""Reading and writing files and folders: atomic, checked, without pickle.

`atomic` holds single files and what JSON is, `folders` whole folders.
"""
