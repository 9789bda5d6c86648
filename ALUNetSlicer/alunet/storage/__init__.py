"""Files that are written once and whole, locks, a full disk, and the connection to a SQLite
database.
"""
