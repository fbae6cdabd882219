"""Figures: plain data in, a figure out that shows itself in any notebook; `save_figure` writes it as PNG."""

from ..lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "sweep": ["latency", "speedup", "limit_share", "peak_memory", "hook_shares"],
        "longbench": ["longbench_bars"],
        "pruning": ["survival_matrix", "kv_lengths", "score_distribution"],
        "quality": ["single_cut_losses", "pooled_quality", "quality_against_flops", "blend_quality"],
        "saliency": ["saliency_map", "salient_share", "reading_layer"],
        "style": ["Figure", "save_figure", "save_figures"],
        "survival": ["survival_text"],
        "training": ["loss_curves", "rank_correlation"],
    },
)
