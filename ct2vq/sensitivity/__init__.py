"""Stage `sensitivity`: the same synthesised images scored against SPECT images made otherwise.

`case` makes each alternative SPECT of a case and scores against it; `ct2vq.compare.universe` compares the models in
every combination of choices.
"""
