"""What the report calls networks and losses; the paper's values stand only beside residual attention networks."""

from __future__ import annotations

from ct2vq.config import complete_config
from ct2vq.networks.settings import PEERS as KINDS
from ct2vq.report.published import role
from ct2vq.report.results import PEERS, loss_words, network_words

BOTH = ["perfusion", "ventilation"]


def test_every_peer_has_a_name_and_no_published_value() -> None:
    assert PEERS.keys() == KINDS.keys()
    for kind, name in PEERS.items():
        assert network_words({"kind": kind, "targets": BOTH}) == f"{name} with 2 channels in its head"
        assert role({"kind": kind, "targets": BOTH}) is None
    assert network_words({"kind": "ran", "targets": BOTH[:1]}) == "residual attention network with 1 decoder"
    assert [role({"kind": "ran", "targets": targets}) for targets in (BOTH, BOTH[:1])] == ["DDRAN", "RAN"]
    assert role({"kind": "mean_map", "targets": BOTH}) is None


def test_a_loss_is_told_by_its_parts() -> None:
    loss = complete_config({"study": "x"})["train"]["loss"]
    assert loss_words(loss) == "1 × l1, 0.5 × correlation"
    assert loss_words(loss | {"ssim": 0.2, "balance": "spread"}) == (
        "1 × l1, 0.2 × ssim, 0.5 × correlation (targets balanced by spread)"
    )
