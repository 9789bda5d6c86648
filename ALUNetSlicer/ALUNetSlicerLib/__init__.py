"""The Slicer side of ALUNet: what a person sees and does. It knows nothing of the engine; the
agent does.
"""
