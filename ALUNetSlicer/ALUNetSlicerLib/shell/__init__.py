"""The module in Slicer: its life, the parts put together, the open project, the scene, the
console.
"""
