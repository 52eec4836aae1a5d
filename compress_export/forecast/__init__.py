"""What a run will take, before it is begun: seconds of each stage, and memory at its peak."""

from compress_export.forecast.forecast import Forecast, forecast

__all__ = ["Forecast", "forecast"]
