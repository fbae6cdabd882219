"""Result files as Markdown tables."""

from ..lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "report": ["longbench_table", "table2_beside_paper"],
        "table2": ["latency_table"],
    },
)
