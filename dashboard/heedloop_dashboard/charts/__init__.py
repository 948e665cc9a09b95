"""Charts: marks and axes as Vega-Lite."""
