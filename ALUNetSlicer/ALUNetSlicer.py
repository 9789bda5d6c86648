"""The module that Slicer looks for: four classes, and nothing else. See the folder
ALUNetSlicerLib.
"""

import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from ALUNetSlicerLib.panel import Panel
from ALUNetSlicerLib.shell import module


class ALUNetSlicer(ScriptedLoadableModule):
    """What Slicer's menus say of the module."""

    def __init__(self, parent: object) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        module.describe_module(parent)


class ALUNetSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel, from its making to its end."""

    def __init__(self, parent: object = None) -> None:
        VTKObservationMixin.__init__(self)
        self.shell = None
        # without a parent it sets itself up
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self) -> None:
        """The module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = ALUNetSlicerLogic()
        self.shell = module.Shell(self, Panel)

    def enter(self) -> None:
        """The module is opened."""
        self.shell.enter()

    def exit(self) -> None:
        """Another module is opened."""
        self.shell.exit()

    def onReload(self) -> None:
        """The developer's button: the package is loaded anew, too."""
        module.forget()
        ScriptedLoadableModuleWidget.onReload(self)
        # the new one, which Slicer sets up and does not open
        slicer.modules.ALUNetSlicerWidget.enter()

    def cleanup(self) -> None:
        """The module is unloaded, or Slicer ends."""
        self.removeObservers()
        module.close(self)


class ALUNetSlicerLogic(ScriptedLoadableModuleLogic, module.Console):
    """What the Python console can do; see `ALUNetSlicerLib.shell.console.Console`."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        module.Console.__init__(self)


class ALUNetSlicerTest(ScriptedLoadableModuleTest):
    """All tests of the Slicer side, for *Reload and Test*."""

    def runTest(self) -> None:
        """Run them."""
        module.run_tests()
