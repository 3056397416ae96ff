"""The reader study: what is shown to whom, blinded packs to hand over, answers, and their analysis."""
