"""Parts of the module X-ray2CTPA. Importing it makes the core importable and has no other effect."""

from .CorePath import makeCoreImportable

makeCoreImportable()
