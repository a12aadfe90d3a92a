"""From the order of axes of this project to that of the published XctDiff networks, and back.

Ours: volumes (B, C, D, H, W) run foot to head, front to back, patient's right to left, and radiographs
(B, C, rows, columns) have rows from the top. Theirs: volumes (B, C, x, y, z) as nibabel gives them, and
radiographs transposed and then flipped, so that their second index runs upward: x is W, y is H, z is D.
"""

import torch


def exchange(volumes: torch.Tensor, released: bool) -> torch.Tensor:
    """(B, C, D, H, W) <-> (B, C, W, H, D) where ``released``; otherwise as they are."""
    return volumes.transpose(2, 4) if released else volumes


def upward(images: torch.Tensor, released: bool) -> torch.Tensor:
    """(B, C, rows, columns) -> (B, C, columns, rows from the bottom) where ``released``; otherwise as they
    are."""
    return images.transpose(2, 3).flip(3) if released else images
