"""Annotating, slice by slice: the worklist, what a slice begins with, drafts, handing in."""
