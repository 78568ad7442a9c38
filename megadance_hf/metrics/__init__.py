"""Every number that papers on dance generation report, and the physical ones that users ask for.

Of one dance: functions of its joint positions `(T, 24, 3)`, metres, Y up, at `fps` frames per second, as `Motion.joints()` gives
them. Of many dances: functions of feature rows `(N, D)`, which `dance_features.py` (kinetic, geometric) and the genre classifier
(style) make. All return plain floats. Degenerate input has a documented value or raises; no number is ever complex or NaN.
"""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".beats": (
            "BEAT_SPREAD bar_profile bar_synchrony beat_alignment beat_synchrony foot_landings landing_synchrony motion_beats "
            "profile_correlation shift_beats"
        ).split(),
        ".dance_features": ("geometric_features", "kinetic_features", "kinetic_features_aistpp"),
        ".distributions": ("diversity frechet_distance genre_accuracy genre_f1 normalize_features paired_test").split(),
        ".novelty": ("TrainingMotion", "TrainingUnits"),
        ".physics": (
            "FLOOR_HEIGHT FROZEN_SPEED SKATING_DISTANCE body_turns count_jumps count_spins depth_below_floor foot_skating_ratio "
            "foot_speed_on_floor frozen_share jerk largest_step largest_turn mean_speed pelvis_bob physical_foot_contact root_drift "
            "toe_speeds"
        ).split(),
        ".reconstruction": ("joint_error", "reconstruction_errors"),
        "megadance_hf.modeling.quantizers_megadance": ("codebook_utilization",),
    },
)
