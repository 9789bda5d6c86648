"""The engine on this computer: its packages, their installation, environments that exist
already.
"""
