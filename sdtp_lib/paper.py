"""Every number of the paper that this project compares with, in one place (arXiv 2504.04514v2).

Scores are percentages, latencies seconds, memory GB, FLOPs TFLOPs. Numbers read off a picture say so.
"""

from __future__ import annotations

CATEGORIES = ("SingleDoc", "MultiDoc", "Summ", "FewShot", "Code")

# Table 1: LongBench, Mistral-7B-Instruct-v0.2; AVG is the plain mean over 14 English sets.
TABLE1_COLUMNS = (*CATEGORIES, "AVG", "1/tau", "prefill x", "end2end x")
_TABLE1_ROWS = {
    "original": (36.66, 29.88, 28.26, 66.95, 53.74, 42.34, None, None, None),
    "LLMLingua-2-small": (31.55, 29.04, 26.79, 49.24, 32.61, 33.94, 1.61, 1.16, 1.12),
    "LLMLingua-2": (31.35, 30.57, 27.29, 52.29, 33.87, 35.16, 1.61, 0.83, 0.97),
    "SDTP": (32.70, 27.74, 26.65, 62.74, 53.99, 39.82, 1.61, 1.71, 1.31),
    "SDTP-low": (35.60, 28.83, 27.26, 64.58, 52.43, 40.98, 1.32, 1.37, 1.10),
}
TABLE1 = {method: dict(zip(TABLE1_COLUMNS, row, strict=True)) for method, row in _TABLE1_ROWS.items()}
TABLE1_NAMES = {  # this project's method -> the paper's
    "full": "original",
    "sdtp": "SDTP",
    "sdtp-low": "SDTP-low",
    "llmlingua2": "LLMLingua-2",
}

# Table 2: Mistral-7B, ten stages with r = 0.9, 128 generated tokens, batch 1; keys are prompt tokens.
TABLE2_COLUMNS = (
    "prefill TFLOPs full",
    "prefill TFLOPs SDTP",
    "end2end TFLOPs full",
    "end2end TFLOPs SDTP",
    "prefill s full",
    "prefill s SDTP",
    "prefill x",
    "end2end s full",
    "end2end s SDTP",
    "end2end x",
    "peak GB full",
    "peak GB SDTP",
    "memory saved %",
)
_TABLE2_ROWS = {
    4096: (72.51, 47.81, 74.78, 50.01, 0.31, 0.20, 1.52, 3.70, 3.43, 1.08, 15.55, 15.04, 3.28),
    8192: (158.22, 102.01, 160.70, 104.35, 0.64, 0.40, 1.58, 4.85, 3.98, 1.22, 17.10, 15.86, 7.25),
    16384: (369.22, 229.41, 372.11, 232.03, 1.40, 0.84, 1.67, 7.17, 5.46, 1.31, 20.20, 17.55, 13.11),
    32768: (949.54, 560.40, 953.25, 563.56, 3.40, 1.90, 1.79, 13.63, 8.95, 1.52, 26.41, 20.95, 20.67),
    65536: (2743.46, 1526.98, 2748.83, 1531.25, 9.33, 4.99, 1.87, 27.75, 16.92, 1.64, 39.31, 28.24, 28.18),
    131072: (8864.49, 4678.81, 8873.15, 4685.28, 29.30, 13.60, 2.15, 63.69, 36.35, 1.75, 65.13, 42.82, 34.26),
}
TABLE2 = {length: dict(zip(TABLE2_COLUMNS, row, strict=True)) for length, row in _TABLE2_ROWS.items()}

# Table 3: eight 5-shot tasks, 65% pruned; task -> model -> (full, SDTP).
TABLE3_MODELS = ("Llama2-7B", "Mistral-7B", "BLOOM-7B")
_TABLE3_ROWS = {
    "COPA": ((83.00, 85.00), (90.00, 91.00), (69.00, 69.00)),
    "PIQA": ((78.84, 78.89), (84.71, 84.44), (73.61, 71.60)),
    "WinoGrande": ((73.88, 72.22), (76.64, 76.16), (65.59, 60.85)),
    "MathQA": ((31.93, 31.19), (36.45, 36.78), (27.81, 27.37)),
    "BoolQ": ((60.98, 66.42), (66.91, 71.35), (61.19, 61.77)),
    "CB": ((51.79, 53.57), (92.86, 89.29), (48.21, 53.57)),
    "WiC": ((52.04, 55.17), (57.21, 55.49), (50.31, 50.47)),
    "WSC": ((36.54, 36.54), (66.35, 65.38), (36.54, 36.54)),
    "Avg": ((58.62, 59.88), (71.39, 71.24), (54.03, 53.90)),
}
TABLE3 = {task: dict(zip(TABLE3_MODELS, row, strict=True)) for task, row in _TABLE3_ROWS.items()}

# Tables 4 and 5: the losses switched off, on Llama2-7B (5-shot) and Mistral-7B (LongBench).
ABLATIONS = ("SDTP", "without ranking loss", "without ranking and MSE loss")
TABLE4_COLUMNS = ("COPA", "PIQA", "WinoGrande", "MathQA", "Avg")
_TABLE4_ROWS = (
    (85.00, 78.89, 72.22, 31.19, 66.82),
    (84.00, 78.40, 71.82, 30.85, 66.27),
    (83.00, 78.29, 71.43, 30.99, 65.93),
)
TABLE4 = {name: dict(zip(TABLE4_COLUMNS, row, strict=True)) for name, row in zip(ABLATIONS, _TABLE4_ROWS, strict=True)}
_TABLE5_ROWS = (
    (32.65, 27.28, 26.60, 62.63, 53.81),
    (32.23, 26.51, 26.32, 61.91, 53.34),
    (31.94, 26.16, 26.59, 62.00, 53.59),
)
TABLE5 = {name: dict(zip(CATEGORIES, row, strict=True)) for name, row in zip(ABLATIONS, _TABLE5_ROWS, strict=True)}

# Table 6: with a KV cache cut to 40%, Llama2-7B.
TABLE6_COLUMNS = ("full", "local 40%", "H2O 40%", "SDTP + H2O 40%")
_TABLE6_ROWS = {
    "COPA": (83.00, 50.00, 85.00, 85.00),
    "PIQA": (78.84, 50.27, 78.62, 78.56),
    "WinoGrande": (73.88, 48.46, 73.32, 72.53),
    "MathQA": (31.93, 23.38, 30.99, 30.99),
}
TABLE6 = {task: dict(zip(TABLE6_COLUMNS, row, strict=True)) for task, row in _TABLE6_ROWS.items()}

# Figure 2, read off: share of tokens above 10% of their layer's maximum; layers counted from 1, (lowest, highest).
FIG2_MODEL_LAYERS = 32
FIG2_SALIENT_SHARE = {1: (0.70, 0.70), 19: (0.17, 0.25), 32: (0.17, 0.25)}
SALIENT_THRESHOLD = 0.1  # of the largest score of the layer

# Figure 4, read off: WinoGrande of Llama2-7B with one stage at layer 1, keep ratio -> accuracy; and the full model.
FIG4_LAYER1, FIG4_FULL = {0.9: 72.2, 0.8: 70.2, 0.7: 65.3}, 73.88

# Figure 5: the eight 5-shot tasks against the number of stages, r = 0.9; its axis ends at seven stages.
FIG5_STAGES = (1, 7)

# Abstract and text.
CLAIMS = {
    "pruned %": 65,
    "FLOPs saved %": (33, 47),
    "end2end x": 1.75,
    "memory saved %": 34.26,
    "points above LLMLingua-2": 4.66,
    "SDTP-low loses": (1.0, 2.37),
    "module % of FLOPs": 1,
    "losses worth, 5-shot": 0.89,
    "losses worth, LongBench": 1.12,
}
