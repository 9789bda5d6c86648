"""The other end of HTTP: the one process that a viewer talks to, and the client under it.

Standard library and `requests` alone, so that the Python of 3D Slicer can run it; importing this
package loads neither. `python -m alunet.agent` speaks JSON lines; `alunet.agent.client.Client` is
the same from Python.
"""
