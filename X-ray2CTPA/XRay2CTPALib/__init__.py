"""What the module XRay2CTPA is made of. Importing it makes the core importable and does nothing else."""

from .CorePath import makeCoreImportable

makeCoreImportable()
