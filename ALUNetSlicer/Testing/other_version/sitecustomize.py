"""On PYTHONPATH: with the variable ALUNET_TEST_API, ALUNet speaks that version of the contract."""

import os

if "ALUNET_TEST_API" in os.environ:
    import alunet.schema
    import alunet.schema.constants

    alunet.schema.API = alunet.schema.constants.API = int(os.environ["ALUNET_TEST_API"])
