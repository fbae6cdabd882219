"""What a notebook begins with: the claims that its run answers, from stored files alone."""

import pytest

from sdtp_lib import paths, results
from sdtp_lib.ledger import answers
from sdtp_lib.ledger.ledger import TITLES


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    data = {"layers": [0, 1, 2, 3], "share": [0.4, 0.3, 0.1, 0.02]}
    share = {"metadata": {"model": "smollm2-135m", "prompts": 8}, "data": data}
    results.write_json(tmp_path / "results" / "smollm2" / "fig2_salient_share.json", share)


def test_its_claims_with_the_best_evidence_and_what_was_not_run(repository):
    lines = answers.came_out("01").splitlines()
    (share,) = [line for line in lines if "Figure 2" in line]
    assert "40.0% at layer 0" in share and "8 prompts" in share and "**holds, measured on SmolLM2-135M**" in share
    assert sum("**not run**" in line for line in lines) == 3 and "REPRODUCTION.md" in lines[-1]


def test_every_claim_has_a_notebook(repository):
    named = {answers.notebook_of(claim) for claims in TITLES.values() for claim in claims}
    assert None not in named and named >= {"01", "02", "04", "05", "06", "07", "08", "09", "10"}
    with pytest.raises(ValueError, match="no claim of the ledger is tested by notebook '03'"):
        answers.came_out("03")
