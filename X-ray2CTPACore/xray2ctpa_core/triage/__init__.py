"""Clinical rules for suspected pulmonary embolism, with which a generated CTPA's score is shown.

``criteria`` is the table of items with their sources, ``rules`` the scores and cut-offs, ``likelihood`` the
effect of a score with its uncertainty, ``workflow`` the pathway (X-ray2CTPA, Figure 10) and the way of a
case, ``scoring`` the score of a result. The model's score never decides a step. Research use; numpy and the
standard library only.
"""
