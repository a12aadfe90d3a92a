"""Exchange of axes between this project and the published XctDiff networks.

Ours: volumes (B, C, D, H, W) run foot to head, front to back, patient's right to left, and radiographs
(B, C, rows, columns) have rows from the top. Theirs: volumes (B, C, x, y, z) as nibabel gives them, and
radiographs transposed and then flipped, so that their second index runs upward: x is W, y is H, z is D.
"""

import torch


def exchange(volumes: torch.Tensor, released: bool) -> torch.Tensor:
    """(B, C, D, H, W) <-> (B, C, W, H, D) if ``released``; otherwise unchanged."""
    return volumes.transpose(2, 4) if released else volumes


def upward(images: torch.Tensor, released: bool) -> torch.Tensor:
    """(B, C, rows, columns) -> (B, C, columns, rows from the bottom) if ``released``; otherwise unchanged."""
    return images.transpose(2, 3).flip(3) if released else images
