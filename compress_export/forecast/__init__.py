"""What a run will take, before it is begun: seconds of each stage, and memory at its peak."""

from compress_export.forecast.forecast import Forecast, duration, forecast, rates_of
from compress_export.forecast.rates import Rates

__all__ = ["Forecast", "Rates", "duration", "forecast", "rates_of"]
