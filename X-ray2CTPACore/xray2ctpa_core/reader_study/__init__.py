"""Reader studies: blinded cases in a random order, answers that are stored at once, and their analysis.

``protocol`` is the study as a file, ``answers`` a reader's answers (both need only the standard library,
because the Slicer module uses them), ``making`` turns a cohort into a study without unfair cues,
``multi_reader`` and ``analysis`` compute what X-ray2CTPA reports in its Table 6, with intervals and exact
tests.
"""
