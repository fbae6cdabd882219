"""What does not add up in the paper, as the ledger says it."""

DISAGREEMENTS = """## What does not add up in the paper

Nothing here was tuned to these.

- **FLOPs of Table 2.** They fit 16.092 GFLOP per token plus 393,209 FLOP per pair of tokens: a model without
  grouped queries, with embedding and head counted. Mistral-7B needs 13.96 + 0.26 GFLOP per token, and 2dL (causal)
  or 4dL (dense) times the square of the length. Only the ratios can be compared.
- **Layer numbers and 1/tau.** The text does not say whether layers count from 0 or 1. Ten stages from layer 4,
  every third, r = 0.9 on 32 layers give 1/tau = 1.53 counted from 0 (this project) and 1.58 counted from 1; Table 1
  prints 1.61. Five stages at 4, 9, 14, 19, 24 give the 1.32 printed for SDTP-low.
- **Two logits, one score.** Eq. 1 gives a keep and a drop logit, while the MSE and ranking losses need one number.
  Here the pruner has the keep logit alone and the drop logit is 0.
- **"Without ranking and MSE" (Tables 4 and 5)** cannot be Eq. 8 less two terms: with cross-entropy alone the mask
  learns to keep everything. That row needs a loss on the pruning rate, as in DynamicViT, wherever the supervision
  is off.
- **Table 5 against Table 1.** The SDTP rows of the two differ slightly, and not every difference printed with Table
  5 follows from its rows.
- **Noise in Table 3.** WSC is 36.54 = 38/104 in four cells, a constant answer; COPA, CB and WSC have standard
  errors of 4 to 7 points, more than most of their differences. No random choice of tokens is shown as a control.
- **Figure 5** ends at seven stages (48% of the tokens kept), so it does not show the ten stages used everywhere
  else.
- **Long rows of Table 2.** Mistral-7B-Instruct-v0.2 scores 49 at 64K and 13.8 at 128K on RULER: those rows say
  something about latency, nothing about answers.
"""
