"""Is what is served still right?"""

from headway.monitor._alerts import Channel, Delivery, Message, channels, deliver
from headway.monitor._drift import drift
from headway.monitor._estimate import Calibration, calibrate, estimate_classification, estimate_regression
from headway.monitor._performance import performance
from headway.monitor._profile import ColumnCounts, ColumnProfile, Counts, Profile, build_profile, count, total
from headway.monitor._report import KIND_NAMES, WindowReport, evidence, to_html, to_json
from headway.monitor._together import together

__all__ = [
    "KIND_NAMES",
    "Calibration",
    "Channel",
    "ColumnCounts",
    "ColumnProfile",
    "Counts",
    "Delivery",
    "Message",
    "Profile",
    "WindowReport",
    "build_profile",
    "calibrate",
    "channels",
    "count",
    "deliver",
    "drift",
    "estimate_classification",
    "estimate_regression",
    "evidence",
    "performance",
    "to_html",
    "to_json",
    "together",
    "total",
]
