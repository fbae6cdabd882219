"""What `exploration` gives, made up: any number of tokens, layers and texts, without a model."""

import random

HOSTILE = [
    "<img src=x onerror=\"window.hit='img'\">", "</script><script>window.hit='script'</script>", "<!--", "{{ 7 * 7 }}",
    "</span></div><style>*{display:none}</style>", "&lt;b&gt;",
    "\u2028", "\u202e", "\x00", "'\"`$\\", "]]>", "日本", "\n",
]  # fmt: skip


def made_up(tokens=60, depth=8, stages=(2, 4, 5), ratio=0.7, texts=None, names=("sdtp", "random"), saliency=True):
    """`exploration`'s layout with consistent numbers: tokens leave by the scores shown, the first two and the last
    three never; `texts` stand at the beginning."""
    draw = random.Random(0)
    words = [f" word{column}" for column in range(tokens)]
    words[: len(texts or [])] = texts or []
    runs = [_run(draw, name, tokens, depth, stages, ratio) for name in names]
    values = [[draw.random() ** 8 for _ in range(tokens)] for _ in range(depth)] if saliency else None
    for run in runs:
        run["agreement"] = [run["present"][layer] / tokens for layer in range(depth)] if saliency else None
    lengths = [tokens] * depth
    full = {"answer": "Clara <i>is</i> it", "kv_lengths": lengths, "kv_bytes": [256 * n for n in lengths]}
    marked = {"answer": "Clara <i>is</i> it", "given": False, "values": values} if saliency else None
    return {
        "model": "made-up", "schedule": {}, "num_layers": depth, "chat_template": None, "tokens": words, "full": full,
        "runs": runs, "saliency": marked,
    }  # fmt: skip


def made_up_demo(**options):
    """`explorer.demo.demo`'s layout: the pruned prefill takes half of the time, the cache three quarters and less."""
    timed = {"prefill": [0.25, 0.125], "repeats": 5, "dtype": "float32", "device": "cpu", "schedule_name": "keep07"}
    return made_up(**options) | timed | {"record": {"name": "made-up-0", "answer": "Clara"}}


def _run(draw, name, tokens, depth, stages, ratio):
    last, here, rows = [depth - 1] * tokens, list(range(tokens)), []
    for layer in stages:
        scores = {column: draw.uniform(-3, 3) for column in here}
        movable = sorted(here[2:-3], key=scores.get)
        cut = set(movable[: len(here) - int(ratio * len(here))])
        rows.append(
            {"layer": layer, "sinks": 2, "local_from": here[-3], "scores": [scores.get(c) for c in range(tokens)]}
        )
        for column in cut:
            last[column] = layer - 1
        here = [column for column in here if column not in cut]
    present = [sum(at >= layer for at in last) for layer in range(depth)]
    return {
        "name": name, "answer": "Clara", "kv_lengths": present, "kv_bytes": [256 * n for n in present], "reason": None,
        "last_layer": last, "present": present, "stages": rows,
    }  # fmt: skip
