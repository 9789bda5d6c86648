"""The engine as a service: projects, uploads, jobs and annotations over HTTP, for one person or a
whole department.

`alunet serve` starts it (`alunet.serve.server`). The words are those of `alunet.schema`; what must
not be lost is on disk before it is acknowledged, and everything long is a job in a process of its
own (`alunet.serve.worker`).
"""
