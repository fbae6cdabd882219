"""Small result files as the notebooks write them, for the tests of reports, ledger and plots."""

from sdtp_lib import paper as paper_numbers
from sdtp_lib import results

METADATA = {"profile": "demo", "model": "demo", "dtype": "bfloat16", "device": "a processor"}
SPEEDUPS = {"keep09": 1.25, "keep08": 2.0, "keep07": 4.0}
LENGTHS = (512, 1024)


def side(seconds: float, kept: int, pruned: int, memory: float | None) -> dict:
    times = {"prefill": seconds, "decode": 3.0, "total": seconds + 3.0}
    return {
        **{f"{part}_latency_seconds": value for part, value in times.items()},
        "spread": {part: [0.9 * value, 1.2 * value] for part, value in times.items()},
        "memory_gb": memory,
        "kv_lens_after_prefill": [kept + pruned, kept],
        "tokens_kept": kept,
        "tokens_pruned": pruned,
    }


def latency_document(
    config: str, lengths=LENGTHS, memory: tuple[float, float] | None = None, limits: bool = True, **metadata
) -> dict:
    """A sweep whose prefill takes a second per 1,024 tokens; pruned, SPEEDUPS times less and the longer the better.

    Without `limits` it is a file from before those were recorded.
    """
    rows, full_memory, pruned_memory = {}, *(memory or (None, None))
    for length in lengths:
        seconds, kept = length / 1024, int(0.35 * length)
        row = {"baseline": side(seconds, length, 0, full_memory)}
        row |= {"flops": {"baseline": 2e12}, "flops_end2end": {"baseline": 3e12}}
        if config != "none":
            speedup = SPEEDUPS[config] + length / 8192
            row["sdtp"] = side(seconds / speedup, kept, length - kept, pruned_memory)
            row["speedup"] = {"prefill": speedup, "decode": 1.0, "total": (seconds + 3) / (seconds / speedup + 3)}
            row["kv_reduction"] = 0.325
            row["flops"] = {"baseline": 2e12, "sdtp": 1e12, "ratio": 0.5 - length / 1e6}
            row["flops_end2end"] = {"baseline": 3e12, "sdtp": 2e12, "ratio": 0.6 - length / 1e6}
            if limits:
                row["limit"] = {"prefill_causal": 1 / row["flops"]["ratio"], "prefill_dense": 2.5, "end2end": 1.25}
                row["share_of_limit"] = {
                    "prefill": speedup * row["flops"]["ratio"],
                    "end2end": row["speedup"]["total"] / 1.25,
                }
        rows[str(length)] = row
    details = {"mode": "end2end", "config": config, "new_tokens": 128, "repeats": 3, "torch": "2.13.0"}
    return {"metadata": {**METADATA, "model": "scaled-mistral", **details, **metadata}, "results": rows}


def write_sweep(folder, **options) -> dict:
    """The four latency files of a notebook; argument of `latency_table` -> path."""
    configs = {"baseline": "none", "sdtp09": "keep09", "sdtp08": "keep08", "sdtp07": "keep07"}
    paths = {}
    for argument, config in configs.items():
        paths[argument] = folder / f"latency_results_{'baseline' if config == 'none' else config}.json"
        results.write_json(paths[argument], latency_document(config, **options))
    return paths


def summary(average: float, compression: float = 1.4) -> dict:
    """What the evaluation says of one method that scores alike everywhere."""
    cell = {"score": average, "n": 50, "ci95": [average - 4, average + 3]}
    categories = dict.fromkeys(paper_numbers.CATEGORIES, cell)
    return {"average": average, "ci95": cell["ci95"], "categories": categories, "compression": compression}


def longbench_data(**averages: float) -> dict:
    """method -> summary; `sdtp_low` stands for sdtp-low."""
    named = {name.replace("_", "-"): average for name, average in averages.items()}
    return {name: summary(average, 1.2 if name.endswith("low") else 1.4) for name, average in named.items()}


def write_data(folder, stem: str, data: dict) -> None:
    """A result file of the `{"metadata", "data"}` kind."""
    results.write_json(folder / f"{stem}.json", {"metadata": METADATA, "data": data})
