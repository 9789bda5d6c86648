"""One file a strategy; `alunet.query.registry` finds them all."""
