"""Learning curves as a chart in the scene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer

Curves = Mapping[str, list[tuple[float, float]]]
"""Name -> (labeled slices, measure) of each round."""
_X = "labeled slices"
MEAN = "mean"
"""The engine's name of the mean of all structures."""
_NEUTRAL = "#606060"
"""Of the mean: no structure's."""


def curve_chart(
    title: str,
    measure: str,
    curves: Curves,
    x_title: str,
    y_title: str,
    colors: Mapping[str, str],
) -> Any:
    """Draw curves into the chart of that title, and return its node; those without points are left
    out.

    The axis is from 0 to 1 where all values are there.

    Args:
        title: names the chart; the same one is used each time.
        measure: what the curves show, for the legend.
        x_title, y_title: of the axes.
        colors: #rrggbb of curves by name; the others are all different.

    Returns:
        vtkMRMLPlotChartNode.
    """
    chart = _node("vtkMRMLPlotChartNode", title)
    chart.RemoveAllPlotSeriesNodeIDs()
    for name, points in curves.items():
        if points:
            series = _series(title, measure, name, points)
            _paint(series, name, colors)
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetXAxisTitle(x_title)
    chart.SetYAxisTitle(y_title)
    chart.SetYAxisRangeAuto(
        any(not 0 <= value <= 1 for points in curves.values() for _slices, value in points)
    )
    chart.SetYAxisRange(0.0, 1.0)
    chart.SetLegendVisibility(True)
    return chart


def _series(title: str, measure: str, name: str, points: list[tuple[float, float]]) -> Any:
    table = _node("vtkMRMLTableNode", f"{title}: {name}")
    series = _node("vtkMRMLPlotSeriesNode", f"{measure}, {name}")  # the legend shows its name
    table.RemoveAllColumns()
    slicer.util.updateTableFromArray(table, list(np.asarray(points).T.copy()), [_X, name])
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(_X)
    series.SetYColumnName(name)
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle)
    series.SetLineWidth(4 if name == MEAN else 2)
    return series


def _paint(series: Any, name: str, colors: Mapping[str, str]) -> None:
    color = colors.get(name, _NEUTRAL if name == MEAN else "")
    if color:
        series.SetColor(*(int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)))
    else:
        series.SetUniqueColor()


def _node(kind: str, name: str) -> Any:
    return slicer.mrmlScene.GetFirstNode(name, kind) or slicer.mrmlScene.AddNewNodeByClass(
        kind, name
    )
