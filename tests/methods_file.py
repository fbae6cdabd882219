"""A real model's `methods.json` with made-up scores, for the tests of the ledger."""

from sdtp_lib import paths, results

ABOUT = {"profile": "smollm2", "model": "smollm2-135m", "dtype": "float32", "device": "a GPU"}
WIDTH = 2.0  # points from a mean to either end of its interval


def methods_document(schedule="paper", tokens=1024, n=100, width=WIDTH, **tasks):
    """task={method, or (method, pruner), or (method, pruner, pooling): score}; each has a `full` to differ from."""
    rows = []
    for task, scores in tasks.items():
        for name, score in scores.items():
            method, pruner, pooled = (*name, "")[:3] if isinstance(name, tuple) else (name, None, "")
            cell = {"mean": score, "ci95": [score - width, score + width]}
            if method != "full":
                lost = score - scores["full"]
                cell["difference"] = {"mean": lost, "ci95": [lost - width, lost + width]}
            where = {"tokens": tokens, "task": task, "schedule": "none" if method == "full" else schedule}
            rows.append(
                {
                    **where,
                    "method": f"{method}{f', {pruner}' if pruner else ''}{pooled}",
                    "pruner": pruner,
                    "n": n,
                    "flops": 1.5,
                    "score": cell,
                }
            )
    return {"metadata": ABOUT, "data": rows}


def write_methods(**options):
    results.write_json(paths.results("smollm2") / "methods.json", methods_document(**options))
