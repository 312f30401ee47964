"""Percentiles and how they are printed."""


def percentile(values, percent):
    """The value below which that share of the values lies; the nearest one that occurred."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def milliseconds(values):
    return f"p50 {percentile(values, 50) * 1000:8.2f} ms   p99 {percentile(values, 99) * 1000:8.2f} ms   n {len(values)}"
