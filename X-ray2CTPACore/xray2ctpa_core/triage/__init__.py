"""Clinical rules for suspected pulmonary embolism, beside which a generated CTPA's score is shown.

``criteria`` is the table of items with their sources, ``rules`` the scores and cut-offs, ``likelihood`` what
a score changes with its uncertainty, ``workflow`` the pathway (X-ray2CTPA, Figure 10) and where a case goes,
``scoring`` the score of a result beside it.
The model's score never decides a step. Research use; numpy and the standard library only.
"""
