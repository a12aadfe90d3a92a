"""What the module XRay2CTPA is made of. Importing it makes the core package importable and does nothing else."""

from .CorePath import makeCoreImportable

makeCoreImportable()
