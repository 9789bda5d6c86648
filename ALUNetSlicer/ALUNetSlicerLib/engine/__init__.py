"""The engine as Slicer reaches it: the agent's process, jobs, results, volumes that become
cases, simulations.
"""
