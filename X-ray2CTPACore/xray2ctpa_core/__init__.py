"""X-ray2CTPA core: one chest radiograph to a synthetic CT pulmonary angiogram.

Importing this package is light: it imports neither torch nor slicer and has no effect.
A generated CTPA is a hypothesis, never a diagnosis.
"""

__version__ = "0.1.0"
