"""What the program did at a recorded commit, and the scripts that recorded it.

==========================  ========================================================================
``batches.npz``, ``.json``  stored model outputs, and the batch that each strategy chooses from them
``help.json``               every command of `alunet` with its options and defaults
``openapi.json``            the description that the service gives of itself
``project-COMMIT.zip``      projects and an agent's outbox that this commit made, and in ``.json``
                            what is in them
==========================  ========================================================================

A recording is made by a person who means it, in a commit of its own: `record.py` for the first
three, `make_projects.py` for the projects. No test writes one.
"""
