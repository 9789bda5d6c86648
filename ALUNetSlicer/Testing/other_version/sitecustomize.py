"""On PYTHONPATH, and with the variable ALUNET_TEST_API: a process of ALUNet that speaks that version of the contract."""

import os

if "ALUNET_TEST_API" in os.environ:
    import alunet.schema
    import alunet.schema.messages

    alunet.schema.API = alunet.schema.messages.API = int(os.environ["ALUNET_TEST_API"])
